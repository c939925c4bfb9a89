//! Link that a card replaces, as it was read.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{LinkName, RouteSpec};

use super::request::MirrorRequest;
use crate::netns::{Netns, NetnsId};

/// Link that a card replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredLink {
    /// Request to mirror it.
    pub(crate) request: MirrorRequest,
    /// Namespace in which it was read.
    pub(super) netns: NetnsId,
    /// Its index in the namespace.
    pub(crate) index: u32,
    /// Routes through the card.
    pub(crate) routes: Vec<RouteSpec>,
    /// Routes through the link, also those that the guest has by another card.
    pub(crate) of_link: Vec<RouteSpec>,
}

impl MirroredLink {
    /// Returns the name of the link.
    #[must_use]
    pub fn name(&self) -> &LinkName {
        &self.request.link
    }

    /// Checks that a namespace is that of the link.
    ///
    /// # Errors
    /// [`Kind::NotYet`] if the sandbox's namespace was replaced.
    pub(crate) fn check_netns(&self, netns: &Netns) -> Result<(), Failure> {
        if netns.id() == self.netns {
            return Ok(());
        }
        let message = "the sandbox's network namespace was replaced while its link was read";
        Err(Failure::new(Kind::NotYet, message).with_field("link"))
    }

    /// Returns the routes through the card.
    #[must_use]
    pub fn routes(&self) -> &[RouteSpec] {
        &self.routes
    }
}
