//! The requests about connection tracking.

use async_trait::async_trait;
use patchbay_codec::Packed as _;
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_types::failure::Failure;
use patchbay_wire::convert::conntrack as convert;
use patchbay_wire::proto::conntrack as wire;
use patchbay_wire::proto::conntrack_ttrpc::Conntrack;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use super::chunks::{Chunks, relay};
use super::handlers::Handlers;

#[async_trait]
impl Conntrack for Handlers {
    async fn delete(
        &self,
        _: &TtrpcContext,
        request: wire::DeleteRequest,
    ) -> ttrpc::Result<wire::DeleteReply> {
        self.run("conntrack_delete", move |services| {
            let filter = Filter::try_from(&request)?;
            let deleted = services.conntrack().delete(&filter);
            deleted
                .map(|deleted| wire::DeleteReply {
                    deleted: u32::try_from(deleted).unwrap_or(u32::MAX),
                    ..wire::DeleteReply::default()
                })
                .map_err(|error| (&error).into())
        })
        .await
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: wire::ListRequest,
        stream: ServerStreamSender<wire::ListChunk>,
    ) -> ttrpc::Result<()> {
        let (mut packed, chunks) = Chunks::channel();
        let read = self.run("conntrack_list", move |services| {
            let only = convert::list_filter(&request)?;
            let mut each = |flow: &Flow| {
                // Once the host has gone the kernel's answer is read to its end and dropped.
                let _ = packed.push(|rows| flow.pack(rows));
            };
            let listed = services.conntrack().list(only.as_ref(), &mut each);
            listed.map_err(|error| Failure::from(&error))?;
            let _ = packed.send();
            Ok(())
        });
        let send = relay(chunks, stream, |flows| wire::ListChunk {
            flows,
            ..wire::ListChunk::default()
        });
        tokio::try_join!(read, send).map(|_| ())
    }
}
