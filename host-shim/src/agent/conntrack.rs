//! The calls about connection tracking.

use std::time::Duration;

use patchbay_protocols::conntrack::{Filter, Flow};
use patchbay_protocols::convert::conntrack as convert;
use patchbay_protocols::failure::Failure;
use patchbay_protocols::packed::{Packed as _, Reader};
use patchbay_protocols::wire::conntrack as wire;
use patchbay_protocols::wire::conntrack_ttrpc::ConntrackClient;
use ttrpc::context;

use super::{Agent, bounded, nonsense};

/// A table may hold some hundred thousand flows.
const LIMIT: Duration = Duration::from_secs(60);

impl Agent {
    /// Deletes flows; how many there were.
    pub(crate) fn conntrack_delete(&self, filter: &Filter) -> Result<u32, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = wire::DeleteRequest::from(filter);
        let call = client.delete(context::with_duration(LIMIT), &request);
        Ok(self.wait(LIMIT, call)?.deleted)
    }

    /// The flows that agree with the whole filter, or all, in the kernel's order.
    pub(crate) fn conntrack_list(&self, only: Option<&Filter>) -> Result<Vec<Flow>, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = convert::list_request(only);
        let call = async {
            let mut flows = Ok(Vec::new());
            let mut stream = client.list(context::with_duration(LIMIT), &request).await?;
            while let Some(chunk) = stream.recv().await? {
                flows = flows.and_then(|flows| with(flows, &chunk.flows));
                if flows.is_err() {
                    break;
                }
            }
            Ok(flows)
        };
        self.wait(LIMIT, call)?
    }
}

/// The flows of one message more.
fn with(mut flows: Vec<Flow>, packed: &[u8]) -> Result<Vec<Flow>, Failure> {
    let mut reader = Reader::new(packed);
    while !reader.is_empty() {
        flows.push(Flow::unpack(&mut reader).map_err(|invalid| nonsense(&invalid))?);
        bounded(flows.len())?;
    }
    Ok(flows)
}
