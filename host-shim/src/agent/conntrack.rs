//! The calls about connection tracking.

use std::time::Duration;

use patchbay_protocols::conntrack::Filter;
use patchbay_protocols::failure::Failure;
use patchbay_protocols::wire::conntrack as wire;
use patchbay_protocols::wire::conntrack_ttrpc::ConntrackClient;

use super::{Agent, context};

/// A table may hold some hundred thousand flows.
const LIMIT: Duration = Duration::from_secs(60);

impl Agent {
    /// Deletes flows; how many there were.
    pub(crate) fn conntrack_delete(&self, filter: &Filter) -> Result<u32, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = wire::DeleteRequest::from(filter);
        let call = client.delete(context(LIMIT), &request);
        Ok(self.wait(LIMIT, call)?.deleted)
    }
}
