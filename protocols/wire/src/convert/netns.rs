//! Network namespaces of the guest.

use std::num::NonZeroU32;

use patchbay_types::{FieldError, GuestNetns};

use crate::proto::agent as wire;

/// Builds the request that enters a namespace.
#[must_use]
pub fn enter_netns_request(netns: &GuestNetns) -> wire::EnterNetnsRequest {
    match netns {
        GuestNetns::Process(pid) => wire::EnterNetnsRequest {
            pid: pid.get(),
            ..wire::EnterNetnsRequest::default()
        },
        GuestNetns::Path(path) => wire::EnterNetnsRequest {
            path: path.display().to_string(),
            ..wire::EnterNetnsRequest::default()
        },
    }
}

impl TryFrom<&wire::EnterNetnsRequest> for GuestNetns {
    type Error = FieldError;

    fn try_from(wire: &wire::EnterNetnsRequest) -> Result<Self, FieldError> {
        match NonZeroU32::new(wire.pid) {
            Some(pid) => Ok(Self::Process(pid)),
            None => wire
                .path
                .parse()
                .map_err(|bad: patchbay_types::InvalidValue| bad.in_field("netns")),
        }
    }
}
