//! Calls for connection tracking.

use std::time::Duration;

use patchbay_codec::{Bulk, Packed as _, Reader};
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_types::failure::Failure;
use patchbay_wire::Feature;
use patchbay_wire::convert::conntrack as convert;
use patchbay_wire::proto::conntrack as wire;
use patchbay_wire::proto::conntrack_ttrpc::ConntrackClient;

use super::list::{MAX_LIST_BYTES, MESSAGE_TIMEOUT, collect};
use super::{Agent, Call, context, protocol_error};

/// Timeout for a table of some hundred thousand flows.
const TABLE_TIMEOUT: Duration = Duration::from_secs(60);

const CALL: Call = Call {
    feature: Feature::Conntrack,
    max_bytes: MAX_LIST_BYTES,
    timeout: TABLE_TIMEOUT,
};

impl Agent {
    /// Deletes the flows that match the filter, and returns their number.
    pub fn conntrack_delete(&self, filter: &Filter) -> Result<u32, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = wire::DeleteRequest::from(filter);
        let call = client.delete(context(TABLE_TIMEOUT), &request);
        Ok(self.call(CALL, call)?.deleted)
    }

    /// Lists the flows that match the filter, or all, in the kernel's order.
    pub fn conntrack_list(&self, filter: Option<&Filter>) -> Result<Vec<Flow>, Failure> {
        let client = ConntrackClient::new(self.transport.clone());
        let request = convert::list_request(filter);
        self.call(CALL, async {
            let stream = client.list(context(TABLE_TIMEOUT), &request).await?;
            collect(stream, MESSAGE_TIMEOUT, |list, chunk: &wire::ListChunk| {
                Bulk::Flows.check(chunk.layout).map_err(protocol_error)?;
                let mut reader = Reader::new(&chunk.flows);
                while !reader.is_empty() {
                    let flow = Flow::unpack(&mut reader).map_err(protocol_error)?;
                    list.push(flow, size_of_val(&flow))?;
                }
                Ok(())
            })
            .await
        })?
    }
}
