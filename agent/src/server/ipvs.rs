//! The requests about IPVS.

use async_trait::async_trait;
use patchbay_protocols::convert::ipvs as convert;
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::ipvs::{Change, Connection, Line, ListedService, RestoreMode, ServiceId};
use patchbay_protocols::wire::ipvs as wire;
use patchbay_protocols::wire::ipvs_ttrpc::Ipvs;
use ttrpc::r#async::{ServerStreamReceiver, ServerStreamSender, TtrpcContext};

use super::handlers::Handlers;
use crate::service::ipvs::Rules;

/// Most items in one message: about 40 kB, so that neither side has to hold a whole table twice.
const CHUNK: usize = 256;

/// A rule file as it arrived.
struct Received {
    mode: RestoreMode,
    limit: Rules,
    lines: Vec<Line>,
}

/// Reads a rule file to its end; one that breaks off is given up.
async fn receive(
    mut stream: ServerStreamReceiver<wire::RestoreChunk>,
) -> Result<Received, Failure> {
    let mut head = None;
    let mut lines = Vec::new();
    while let Some(chunk) = stream.recv().await? {
        let (mode, limit) = match head {
            Some(head) => head,
            None => (convert::mode(chunk.mode)?, Rules(chunk.max_rules)),
        };
        head = Some((mode, limit));
        for rule in &chunk.rules {
            lines.push(Line::try_from(rule)?);
        }
        if chunk.last {
            return Ok(Received { mode, limit, lines });
        }
    }
    Err(Failure::new(Kind::Invalid, "the rule file broke off"))
}

fn table_chunks(table: &[ListedService]) -> impl Iterator<Item = wire::TableChunk> {
    let items = table.iter().flat_map(|listed| {
        let servers = listed.servers.iter().map(wire::TableItem::from);
        std::iter::once(wire::TableItem::from(listed)).chain(servers)
    });
    let mut items = items.peekable();
    std::iter::from_fn(move || {
        items.peek()?;
        Some(wire::TableChunk {
            items: items.by_ref().take(CHUNK).collect(),
            ..wire::TableChunk::default()
        })
    })
}

#[async_trait]
impl Ipvs for Handlers {
    async fn change(
        &self,
        _: &TtrpcContext,
        request: wire::ChangeRequest,
    ) -> ttrpc::Result<wire::ChangeReply> {
        self.run("ipvs_change", move |services| {
            let change = Change::try_from(&request)?;
            let done = services.ipvs().change(&change, Rules(request.max_rules));
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
        let received = receive(stream).await?;
        self.run("ipvs_restore", move |services| {
            let Received { mode, limit, lines } = received;
            let done = services.ipvs().restore(lines, mode, limit);
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
        let table = self.run("ipvs_table", move |services| {
            let only = request.service.as_ref().map(ServiceId::try_from);
            let table = services.ipvs().table(only.transpose()?);
            table.map_err(|error| (&error).into())
        });
        for chunk in table_chunks(&table.await?) {
            stream.send(&chunk).await?;
        }
        Ok(())
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
        for chunk in rows.await?.chunks(CHUNK) {
            let message = wire::ConnectionsChunk {
                connections: chunk.iter().map(Into::into).collect(),
                ..wire::ConnectionsChunk::default()
            };
            stream.send(&message).await?;
        }
        Ok(())
    }
}
