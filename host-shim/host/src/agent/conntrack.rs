//! Calls for connection tracking.

use std::time::Duration;

use patchbay_codec::{Bulk, Reader, unpack_flow};
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_types::failure::Failure;
use patchbay_wire::Feature;
use patchbay_wire::convert::conntrack as convert;
use patchbay_wire::proto::conntrack as wire;
use patchbay_wire::proto::conntrack_ttrpc::ConntrackClient;

use super::list::{MAX_LIST_BYTES, MESSAGE_TIMEOUT, collect};
use super::{Agent, Call, Effect, protocol_error};

const CALL: Call = Call {
    feature: Feature::Conntrack,
    max_bytes: MAX_LIST_BYTES,
    // A table has some hundred thousand flows.
    timeout: Duration::from_secs(60),
    effect: Effect::Changes,
};

impl Agent {
    /// Deletes the flows that match the filter, and returns their number.
    pub fn conntrack_delete(&self, filter: &Filter) -> Result<u32, Failure> {
        self.require_criteria(filter)?;
        let client = ConntrackClient::new(self.transport.clone());
        let request = wire::DeleteRequest::from(filter);
        let call = |context| client.delete(context, &request);
        Ok(self.call(CALL, call)?.deleted)
    }

    /// Lists the flows that match the filter, or all, in the kernel's order.
    pub fn conntrack_list(&self, filter: Option<&Filter>) -> Result<Vec<Flow>, Failure> {
        filter.map_or(Ok(()), |filter| self.require_criteria(filter))?;
        let client = ConntrackClient::new(self.transport.clone());
        let request = convert::list_request(filter);
        self.call(CALL.reading(), |context| async move {
            let stream = client.list(context, &request).await?;
            collect(stream, MESSAGE_TIMEOUT, |list, chunk: &wire::ListChunk| {
                Bulk::Flows.check(chunk.layout).map_err(protocol_error)?;
                let mut reader = Reader::new(&chunk.rows);
                while !reader.is_empty() {
                    let flow = unpack_flow(&mut reader, chunk.layout);
                    let flow = flow.map_err(protocol_error)?;
                    list.push(flow, size_of_val(&flow))?;
                }
                Ok(())
            })
            .await
        })?
    }

    /// Checks that the agent knows every criterion; one of the first release ignores new ones.
    fn require_criteria(&self, filter: &Filter) -> Result<(), Failure> {
        if convert::needs_feature(filter) {
            self.require(Feature::ConntrackCriteria)?;
        }
        Ok(())
    }
}
