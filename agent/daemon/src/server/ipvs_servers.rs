//! RPCs about the connections of IPVS servers.

use std::ops::ControlFlow;

use patchbay_types::ipvs::DrainProgress;
use patchbay_wire::convert::ipvs_servers as convert;
use patchbay_wire::proto::ipvs as wire;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use super::handlers::Handlers;

/// Ends connections, and streams the progress of a drain.
pub(super) async fn end_connections(
    (handlers, context): (&Handlers, &TtrpcContext),
    request: wire::EndConnectionsRequest,
    stream: ServerStreamSender<wire::EndConnectionsChunk>,
) -> ttrpc::Result<()> {
    // A host that reads slowly misses progress, but can't keep a drain from ending.
    let (sender, mut states) = mpsc::channel(1);
    let end = handlers.run(("ipvs_end_connections", context), move |netcfg, changes| {
        let (servers, drain) = convert::ended(&request)?;
        let mut progress = |state: DrainProgress| match sender.try_send(state) {
            Err(TrySendError::Closed(_)) => ControlFlow::Break(()),
            Ok(()) | Err(TrySendError::Full(_)) => ControlFlow::Continue(()),
        };
        changes.count("servers", servers.len());
        let ended = match drain {
            None => netcfg.ipvs.end_connections(&servers)?,
            Some(wait) => netcfg.ipvs.drain(&servers, wait, &mut progress)?,
        };
        changes.count("connections", ended);
        Ok(ended)
    });
    // Fails if the host has disconnected, and drops the receiver.
    let relay = async {
        while let Some(state) = states.recv().await {
            stream.send(&state.into()).await?;
        }
        Ok(())
    };
    let (ended, ()) = tokio::try_join!(end, relay)?;
    let result = wire::EndConnectionsChunk {
        ended: u32::try_from(ended).unwrap_or(u32::MAX),
        last: true,
        ..wire::EndConnectionsChunk::default()
    };
    stream.send(&result).await
}
