//! The calls about connection tracking.

use std::time::Duration;

use patchbay_codec::{Packed as _, Reader};
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_types::failure::Failure;
use patchbay_wire::convert::conntrack as convert;
use patchbay_wire::proto::conntrack as wire;
use patchbay_wire::proto::conntrack_ttrpc::ConntrackClient;

use super::pieces::{PIECE, next};
use super::rows::{Size, TABLE};
use super::{Agent, context, nonsense};

/// A table may hold some hundred thousand flows.
const LIMIT: Duration = Duration::from_secs(60);

impl Agent {
    /// Deletes flows; how many there were.
    pub fn conntrack_delete(&self, filter: &Filter) -> Result<u32, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = wire::DeleteRequest::from(filter);
        let call = client.delete(context(LIMIT), &request);
        Ok(self.wait(LIMIT, call)?.deleted)
    }

    /// The flows that agree with the whole filter, or all, in the kernel's order.
    pub fn conntrack_list(&self, only: Option<&Filter>) -> Result<Vec<Flow>, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = convert::list_request(only);
        let call = async {
            let mut flows = Ok(Flows::default());
            let mut stream = client.list(context(LIMIT), &request).await?;
            while let Some(chunk) = next(&mut stream, PIECE).await? {
                flows = flows.and_then(|flows| flows.with(&chunk.flows));
                if flows.is_err() {
                    break;
                }
            }
            Ok(flows)
        };
        Ok(self.wait_for(TABLE, LIMIT, call)??.flows)
    }
}

/// Flows as far as they have come.
#[derive(Default)]
struct Flows {
    flows: Vec<Flow>,
    size: Size,
}

impl Flows {
    /// Those of one message more.
    fn with(mut self, packed: &[u8]) -> Result<Self, Failure> {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let flow = Flow::unpack(&mut reader).map_err(|invalid| nonsense(&invalid))?;
            self.size.grow(size_of_val(&flow))?;
            self.flows.push(flow);
        }
        Ok(self)
    }
}
