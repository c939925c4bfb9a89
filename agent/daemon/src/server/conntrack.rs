//! RPCs of connection tracking.

use async_trait::async_trait;
use patchbay_codec::{Bulk, pack_flow};
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_wire::convert::conntrack as convert;
use patchbay_wire::proto::conntrack as wire;
use patchbay_wire::proto::conntrack_ttrpc::Conntrack;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use super::chunks::{RowStream, relay_rows};
use super::handlers::{Handlers, unary};

#[async_trait]
impl Conntrack for Handlers {
    unary! {
        "conntrack_delete": delete(
            netcfg, request: wire::DeleteRequest, changes
        ) -> wire::DeleteReply {
            let deleted = netcfg.conntrack.delete(&Filter::try_from(&request)?)?;
            changes.count("flows", deleted);
            Ok(wire::DeleteReply {
                deleted: u32::try_from(deleted).unwrap_or(u32::MAX),
                ..wire::DeleteReply::default()
            })
        }
    }

    async fn list(
        &self,
        context: &TtrpcContext,
        request: wire::ListRequest,
        stream: ServerStreamSender<wire::ListChunk>,
    ) -> ttrpc::Result<()> {
        let (mut packed, chunks) = RowStream::channel();
        let layout = request.max_layout.min(Bulk::Flows.layout());
        let read = self.run(("conntrack_list", context), move |netcfg, _| {
            let only = convert::list_filter(&request)?;
            let mut each = |flow: &Flow| {
                // After the host has disconnected, the rest of the dump is read and discarded.
                let _ = packed.push(|rows| pack_flow(flow, layout, rows));
            };
            netcfg.conntrack.list(only.as_ref(), &mut each)?;
            let _ = packed.send();
            Ok(())
        });
        let send = relay_rows(chunks, stream, layout);
        tokio::try_join!(read, send).map(|_| ())
    }
}
