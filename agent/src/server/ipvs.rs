//! The requests about IPVS.

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use patchbay_protocols::convert::ipvs as convert;
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::ipvs::{Change, Connection, MaxRules, RestoreMode};
use patchbay_protocols::packed::{RowRef, unpack};
use patchbay_protocols::wire::ipvs as wire;
use patchbay_protocols::wire::ipvs_ttrpc::Ipvs;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::timeout;
use ttrpc::r#async::{ServerStreamReceiver, ServerStreamSender, TtrpcContext};

use super::handlers::Handlers;
use crate::service::ipvs::Pieces;

/// From how many bytes on a message goes: neither side has to hold a whole table twice.
const CHUNK: usize = 32 << 10;
/// Most connections in one message.
const CONNECTIONS: usize = 256;
/// Most chunks that wait for the host to read them.
const AHEAD: usize = 2;
/// Largest rule file in bytes, packed: a million rules.
const MAX_FILE: usize = 32 << 20;

/// A rule file as it arrived.
struct Received {
    mode: RestoreMode,
    max: MaxRules,
    file: Pieces,
    bytes: usize,
    whole: bool,
}

fn take(chunk: wire::RestoreChunk, received: &mut Option<Received>) -> Result<(), Failure> {
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
    if received.bytes > MAX_FILE {
        received.file.clear();
        return Err(Failure::new(Kind::Invalid, "the rule file is too large"));
    }
    received.file.push(chunk.rules);
    received.whole = chunk.last;
    Ok(())
}

/// Longest wait for the next piece of a rule file, which the host has as a whole. ttrpc does not end
/// the stream of a host that has gone: the stream itself keeps its other end.
const PIECE: Duration = Duration::from_secs(5);

/// Reads a rule file to the end of its stream, also when it is refused by now or past a bad chunk:
/// ttrpc answers a stream that is closed too early with an error of its own.
async fn receive(
    mut stream: ServerStreamReceiver<wire::RestoreChunk>,
    mut bad: Result<(), Failure>,
) -> Result<Received, Failure> {
    let mut received = None;
    let late = |_| Failure::new(Kind::Timeout, "the rule file broke off");
    while let Some(chunk) = timeout(PIECE, stream.recv()).await.map_err(late)?? {
        if bad.is_ok() {
            bad = take(chunk, &mut received);
        }
    }
    bad?;
    received
        .filter(|received| received.whole)
        .ok_or_else(|| Failure::new(Kind::Invalid, "the rule file broke off"))
}

/// Gathers rows, and hands them on when there are enough for a message.
struct TableChunks {
    rows: Vec<u8>,
    sender: Sender<wire::TableChunk>,
}

impl TableChunks {
    /// Breaks when the host has gone.
    fn push(&mut self, row: RowRef<'_>) -> ControlFlow<()> {
        row.pack(&mut self.rows);
        if self.rows.len() < CHUNK {
            return ControlFlow::Continue(());
        }
        self.send()
    }

    fn send(&mut self) -> ControlFlow<()> {
        let chunk = wire::TableChunk {
            rows: std::mem::take(&mut self.rows),
            ..wire::TableChunk::default()
        };
        match self.sender.blocking_send(chunk) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

#[async_trait]
impl Ipvs for Handlers {
    async fn change(
        &self,
        _: &TtrpcContext,
        request: wire::ChangeRequest,
    ) -> ttrpc::Result<wire::ChangeReply> {
        self.run("ipvs_change", move |services| {
            let change: Change = unpack(&request.change)?;
            let done = services.ipvs().change(&change, MaxRules(request.max_rules));
            done.map(|()| wire::ChangeReply::default())
                .map_err(|error| (&error).into())
        })
        .await
    }

    async fn restore(
        &self,
        _: &TtrpcContext,
        stream: ServerStreamReceiver<wire::RestoreChunk>,
    ) -> ttrpc::Result<wire::RestoreReply> {
        let place = self.file().await;
        let refused = place.as_ref().map(drop).map_err(Clone::clone);
        let received = receive(stream, refused).await?;
        self.run("ipvs_restore", move |services| {
            let Received {
                mode, max, file, ..
            } = received;
            let done = services.ipvs().restore(&file, mode, max);
            done.map(Into::into).map_err(|error| (&error).into())
        })
        .await
    }

    async fn table(
        &self,
        _: &TtrpcContext,
        request: wire::TableRequest,
        stream: ServerStreamSender<wire::TableChunk>,
    ) -> ttrpc::Result<()> {
        let (sender, mut chunks) = mpsc::channel(AHEAD);
        let read = self.run("ipvs_table", move |services| {
            let (only, detail) = convert::table_asked(&request)?;
            let rows = Vec::new();
            let mut chunks = TableChunks { rows, sender };
            let read = services
                .ipvs()
                .table(only, detail, &mut |row| chunks.push(row));
            read.map_err(|error| Failure::from(&error))?;
            // The host may have gone by now: then nobody needs the rest.
            let _ = chunks.send();
            Ok(())
        });
        let send = async {
            while let Some(chunk) = chunks.recv().await {
                stream.send(&chunk).await?;
            }
            Ok(())
        };
        tokio::try_join!(read, send).map(|_| ())
    }

    async fn status(
        &self,
        _: &TtrpcContext,
        _: wire::StatusRequest,
    ) -> ttrpc::Result<wire::StatusReply> {
        self.run("ipvs_status", |services| {
            let status = services.ipvs().status();
            status
                .map(|status| (&status).into())
                .map_err(|error| (&error).into())
        })
        .await
    }

    async fn connections(
        &self,
        _: &TtrpcContext,
        _: wire::ConnectionsRequest,
        stream: ServerStreamSender<wire::ConnectionsChunk>,
    ) -> ttrpc::Result<()> {
        let rows = self.run("ipvs_connections", |services| {
            let mut rows: Vec<Connection> = Vec::new();
            let read = services.ipvs().connections(&mut |row| rows.push(row));
            read.map(|()| rows).map_err(|error| (&error).into())
        });
        for chunk in rows.await?.chunks(CONNECTIONS) {
            let message = wire::ConnectionsChunk {
                connections: chunk.iter().map(Into::into).collect(),
                ..wire::ConnectionsChunk::default()
            };
            stream.send(&message).await?;
        }
        Ok(())
    }
}
