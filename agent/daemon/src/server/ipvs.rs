//! RPCs of IPVS.

use std::time::Duration;

use async_trait::async_trait;
use patchbay_codec::{Bulk, Layered as _, Packed as _, TableRowRef, unpack};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{
    Change, Connection, MaxRules, RestoreMode, RestoreProgress, Restored, Setting,
};
use patchbay_wire::convert::{ipvs as convert, ipvs_servers as servers};
use patchbay_wire::proto::ipvs as wire;
use patchbay_wire::proto::ipvs_ttrpc::Ipvs;
use patchbay_wire::status;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use ttrpc::r#async::{
    SSReceiver, ServerStream, ServerStreamReceiver, ServerStreamSender, TtrpcContext,
};

use super::changes::Changes;
use super::chunks::{RowStream, relay};
use super::handlers::{Handlers, unary};
use super::ipvs_servers;
use patchbay_netcfg::ops::Netcfg;
use patchbay_netcfg::ops::ipvs::{Loading, RuleFile};

/// Maximum number of connections in one message.
const MAX_CONNECTIONS: usize = 256;
/// Maximum size of a packed rule file, about a million rules.
const MAX_FILE_BYTES: usize = 32 << 20;

/// Rule file as received.
struct Received {
    mode: RestoreMode,
    max: MaxRules,
    file: RuleFile,
    bytes: usize,
    whole: bool,
}

impl Received {
    /// Restores the file, and records the changes that it made.
    fn restore(
        &self,
        netcfg: &Netcfg,
        changes: &mut Changes,
        watch: Option<&mut dyn FnMut(RestoreProgress)>,
    ) -> Result<Restored, Failure> {
        changes.name("change", "--restore");
        let (mode, max) = (self.mode, self.max);
        let restored = netcfg.ipvs.restore(&self.file, mode, max, watch)?;
        for (field, count) in [
            ("added", restored.added),
            ("edited", restored.edited),
            ("deleted", restored.deleted),
        ] {
            changes.count(field, count as usize);
        }
        Ok(restored)
    }
}

fn take(chunk: wire::RestoreChunk, received: &mut Option<Received>) -> Result<(), Failure> {
    Bulk::Rules.check(chunk.layout)?;
    let received = match received {
        Some(received) => received,
        None => received.insert(Received {
            mode: convert::mode(chunk.mode)?,
            max: MaxRules(chunk.max_rules),
            file: Vec::new(),
            bytes: 0,
            whole: false,
        }),
    };
    received.bytes += chunk.rules.len();
    if received.bytes > MAX_FILE_BYTES {
        received.file.clear();
        return Err(Failure::new(Kind::Invalid, "the rule file is too large"));
    }
    received.file.push(chunk.rules);
    received.whole = chunk.last;
    Ok(())
}

/// Maximum gap between two chunks of a rule file. ttrpc does not end the stream of a host that has
/// disconnected, because the stream itself holds its other end.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);

/// Stream of a rule file, which ttrpc has in two types.
trait Chunks: Send {
    fn next(&mut self) -> impl Future<Output = ttrpc::Result<Option<wire::RestoreChunk>>> + Send;
}

impl Chunks for ServerStreamReceiver<wire::RestoreChunk> {
    async fn next(&mut self) -> ttrpc::Result<Option<wire::RestoreChunk>> {
        self.recv().await
    }
}

impl Chunks for SSReceiver<wire::RestoreChunk> {
    async fn next(&mut self) -> ttrpc::Result<Option<wire::RestoreChunk>> {
        self.recv().await
    }
}

/// Reads a rule file to the end of its stream, even after an error: ttrpc answers a stream that is
/// closed early with an error that hides it.
async fn receive(
    mut stream: impl Chunks,
    mut bad: Result<(), Failure>,
) -> Result<Received, Failure> {
    let mut received = None;
    let late = |_| Failure::new(Kind::Timeout, "the rule file is incomplete");
    while let Some(chunk) = timeout(CHUNK_TIMEOUT, stream.next())
        .await
        .map_err(late)?
        .map_err(status::to_failure)?
    {
        if bad.is_ok() {
            bad = take(chunk, &mut received);
        }
    }
    bad?;
    received
        .filter(|received| received.whole)
        .ok_or_else(|| Failure::new(Kind::Invalid, "the rule file is incomplete"))
}

/// Receives a rule file, with the reservation of its memory.
async fn receive_file(
    handlers: &Handlers,
    stream: impl Chunks,
) -> ttrpc::Result<(Received, OwnedSemaphorePermit)> {
    let place = handlers.file().await;
    let refused = place.as_ref().map(drop).map_err(Clone::clone);
    let received = receive(stream, refused).await;
    let received = received.and_then(|received| Ok((received, place?)));
    received.map_err(|failure| status::from_failure(&failure))
}

#[async_trait]
impl Ipvs for Handlers {
    unary! {
        "ipvs_change": change(
            netcfg, request: wire::ChangeRequest, changes
        ) -> wire::ChangeReply {
            Bulk::Rules.check(request.layout)?;
            let change: Change = unpack(&request.change)?;
            changes.ipvs(&change);
            netcfg.ipvs.change(&change, MaxRules(request.max_rules))?;
            Ok(wire::ChangeReply::default())
        }

        "ipvs_status": status(netcfg, _request: wire::StatusRequest) -> wire::StatusReply {
            Ok((&netcfg.ipvs.status()?).into())
        }

        "ipvs_sysctls": sysctls(netcfg, request: wire::SysctlsRequest) -> wire::SysctlsReply {
            let loading = if request.loaded { Loading::Never } else { Loading::OnDemand };
            let layout = request.max_layout.min(Bulk::Settings.layout());
            let mut reply = wire::SysctlsReply { layout, ..wire::SysctlsReply::default() };
            let readings = netcfg.ipvs.sysctls(loading)?;
            for reading in readings.iter().filter(|reading| reading.layout() <= layout) {
                reading.pack(&mut reply.readings);
            }
            reply.flows = netcfg.ipvs.flows();
            Ok(reply)
        }

        "ipvs_count_connections": count_connections(
            netcfg, request: wire::CountConnectionsRequest
        ) -> wire::CountConnectionsReply {
            Ok(netcfg.ipvs.count_connections(&servers::counted(&request)?)?.into())
        }

        "ipvs_set_sysctl": set_sysctl(
            netcfg, request: wire::SetSysctlRequest, changes
        ) -> wire::SetSysctlReply {
            Bulk::Settings.check(request.layout)?;
            let setting: Setting = unpack(&request.setting)?;
            changes.name("setting", setting.get().sysctl.name());
            changes.name("value", setting.get().value);
            netcfg.ipvs.set_sysctl(&setting)?;
            Ok(wire::SetSysctlReply::default())
        }
    }

    async fn restore(
        &self,
        context: &TtrpcContext,
        stream: ServerStreamReceiver<wire::RestoreChunk>,
    ) -> ttrpc::Result<wire::RestoreReply> {
        let (received, _place) = receive_file(self, stream).await?;
        self.run(("ipvs_restore", context), move |netcfg, changes| {
            Ok(received.restore(netcfg, changes, None)?.into())
        })
        .await
    }

    async fn restore_with_progress(
        &self,
        context: &TtrpcContext,
        stream: ServerStream<wire::RestoreProgress, wire::RestoreChunk>,
    ) -> ttrpc::Result<()> {
        let (replies, chunks) = stream.split();
        let (received, _place) = receive_file(self, chunks).await?;
        // A host that reads slowly misses progress.
        let (sender, mut states) = mpsc::channel::<RestoreProgress>(1);
        let restore = self.run(("ipvs_restore", context), move |netcfg, changes| {
            let mut watch = |state| {
                let _ = sender.try_send(state);
            };
            let watch = Some(&mut watch as &mut dyn FnMut(RestoreProgress));
            received.restore(netcfg, changes, watch)
        });
        // A file is applied to its end, whether or not the host is there.
        let relay = async {
            while let Some(state) = states.recv().await {
                let _ = replies.send(&state.into()).await;
            }
        };
        let (restored, ()) = tokio::join!(restore, relay);
        let last = wire::RestoreProgress {
            reply: Some(restored?.into()).into(),
            ..wire::RestoreProgress::default()
        };
        replies.send(&last).await
    }

    async fn table(
        &self,
        context: &TtrpcContext,
        request: wire::TableRequest,
        stream: ServerStreamSender<wire::TableChunk>,
    ) -> ttrpc::Result<()> {
        let (mut packed, chunks) = RowStream::channel();
        let read = self.run(("ipvs_table", context), move |netcfg, _| {
            let (only, detail) = convert::table_filter(&request)?;
            let mut each = |row: TableRowRef<'_>| packed.push(|rows| row.pack(rows));
            netcfg.ipvs.table(only, detail, &mut each)?;
            // The host may have gone by now: then nobody needs the rest.
            let _ = packed.send();
            Ok(())
        });
        let send = relay(chunks, stream, |rows| wire::TableChunk {
            rows,
            ..wire::TableChunk::default()
        });
        tokio::try_join!(read, send).map(|_| ())
    }

    async fn end_connections(
        &self,
        context: &TtrpcContext,
        request: wire::EndConnectionsRequest,
        stream: ServerStreamSender<wire::EndConnectionsChunk>,
    ) -> ttrpc::Result<()> {
        ipvs_servers::end_connections((self, context), request, stream).await
    }

    async fn connections(
        &self,
        context: &TtrpcContext,
        _: wire::ConnectionsRequest,
        stream: ServerStreamSender<wire::ConnectionsChunk>,
    ) -> ttrpc::Result<()> {
        let rows = self.run(("ipvs_connections", context), |netcfg, _| {
            let mut rows: Vec<Connection> = Vec::new();
            netcfg.ipvs.connections(&mut |row| rows.push(row))?;
            Ok(rows)
        });
        for chunk in rows.await?.chunks(MAX_CONNECTIONS) {
            let message = wire::ConnectionsChunk {
                connections: chunk.iter().map(Into::into).collect(),
                ..wire::ConnectionsChunk::default()
            };
            stream.send(&message).await?;
        }
        Ok(())
    }
}
