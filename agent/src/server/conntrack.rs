//! The requests about connection tracking.

use async_trait::async_trait;
use patchbay_protocols::conntrack::Filter;
use patchbay_protocols::wire::conntrack as wire;
use patchbay_protocols::wire::conntrack_ttrpc::Conntrack;
use ttrpc::r#async::TtrpcContext;

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
}
