//! Calls for IPVS.

use std::time::Duration;

use patchbay_codec::{Bulk, Layered, Packed as _, Reader, TableRow};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{
    Change, Connection, Detail, ListedService, RestoreMode, RestoreProgress, Restored, RuleLine,
    ServiceId, Status, Table,
};
use patchbay_wire::convert::ipvs as convert;
use patchbay_wire::proto::ipvs as wire;
use patchbay_wire::proto::ipvs_ttrpc::IpvsClient;
use patchbay_wire::{Feature, status};

use super::list::{FIRST_CONNECTION_TIMEOUT, List, MAX_LIST_BYTES, MESSAGE_TIMEOUT, collect};
use super::{Agent, Call, Effect, protocol_error};

const SHORT: Call = Call::short(Feature::Ipvs);
/// For a rule file and for tables: the kernel searches its lists of servers linearly, and an emulated
/// guest needs a minute for the largest.
const RESTORE: Call = SHORT.with_timeout(Duration::from_secs(300));
const LIST: Call = Call {
    max_bytes: MAX_LIST_BYTES,
    ..RESTORE.reading()
};

/// Minimum size of a message of a rule file, except for the last; the guest never holds a large one.
const CHUNK_BYTES: usize = 32 << 10;
/// More than the longest rule takes.
const MAX_RULE_BYTES: usize = 256;

/// State of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreState {
    /// So many lines have been sent. The agent doesn't report its work.
    Sent(usize),
    /// The guest is working.
    Applied(RestoreProgress),
}

/// Receiver of the states of a restore.
pub type RestoreWatch<'a> = Option<&'a mut dyn FnMut(RestoreState)>;

/// The messages of a rule file that are left to be sent.
struct Chunks<'a> {
    /// Lines of these messages; `None` after the last message.
    lines: Option<&'a [RuleLine]>,
    mode: RestoreMode,
    max_rules: u32,
    layout: u32,
}

impl Iterator for Chunks<'_> {
    type Item = wire::RestoreChunk;

    fn next(&mut self) -> Option<wire::RestoreChunk> {
        let mut lines = self.lines.take()?;
        let mut rules = Vec::with_capacity(CHUNK_BYTES + MAX_RULE_BYTES);
        while rules.len() < CHUNK_BYTES
            && let Some((line, left)) = lines.split_first()
        {
            line.pack(&mut rules);
            lines = left;
        }
        self.lines = (!lines.is_empty()).then_some(lines);
        Some(wire::RestoreChunk {
            mode: convert::mode_number(self.mode),
            max_rules: self.max_rules,
            rules,
            last: self.lines.is_none(),
            layout: self.layout,
            ..wire::RestoreChunk::default()
        })
    }
}

impl Agent {
    pub(super) fn ipvs_client(&self) -> IpvsClient {
        IpvsClient::new(self.transport.clone())
    }

    /// Changes the table. It can have at most `max_rules` services and servers afterwards.
    ///
    /// # Errors
    /// The agent's, or [`Kind::Unsupported`] if it would change something else.
    pub fn ipvs_change(&self, change: &Change, max_rules: u32) -> Result<(), Failure> {
        let client = self.ipvs_client();
        let request = convert::change_request(change, max_rules);
        self.require_layout(Bulk::Rules, request.layout)?;
        let call = |context| client.change(context, &request);
        self.call(SHORT, call).map(drop)
    }

    /// Applies a rule file. `watch` gets the progress: of the guest's work, or of the sending if the agent
    /// doesn't report its work.
    ///
    /// # Errors
    /// Those of [`Agent::ipvs_change`].
    pub fn ipvs_restore(
        &self,
        lines: &[RuleLine],
        mode: RestoreMode,
        max_rules: u32,
        watch: RestoreWatch<'_>,
    ) -> Result<Restored, Failure> {
        let layout = lines.iter().map(Layered::layout).max().unwrap_or_default();
        self.require_layout(Bulk::Rules, layout)?;
        let chunks = Chunks {
            lines: Some(lines),
            mode,
            max_rules,
            layout,
        };
        let reply = match watch {
            Some(watch) if self.greeting()?.has(Feature::RestoreProgress) => {
                self.restore_watched(chunks, watch)
            }
            watch => self.restore_unwatched(chunks, watch),
        };
        Ok((&reply?).into())
    }

    fn restore_watched(
        &self,
        chunks: Chunks<'_>,
        watch: &mut dyn FnMut(RestoreState),
    ) -> Result<wire::RestoreReply, Failure> {
        let client = self.ipvs_client();
        self.call(
            RESTORE.with_effect(Effect::MarkedChange),
            |context| async move {
                let mut stream = client.restore_with_progress(context).await?;
                for chunk in chunks {
                    self.begin_if_last(&chunk)?;
                    stream.send(&chunk).await?;
                }
                stream.close_send().await?;
                loop {
                    let message = stream.recv().await?;
                    let progress = RestoreProgress::from(&message);
                    match message.reply.into_option() {
                        Some(reply) => return Ok(reply),
                        None => watch(RestoreState::Applied(progress)),
                    }
                }
            },
        )
    }

    fn restore_unwatched(
        &self,
        mut chunks: Chunks<'_>,
        mut watch: RestoreWatch<'_>,
    ) -> Result<wire::RestoreReply, Failure> {
        let client = self.ipvs_client();
        let left = |chunks: &Chunks<'_>| chunks.lines.map_or(0, <[RuleLine]>::len);
        let total = left(&chunks);
        self.call(
            RESTORE.with_effect(Effect::MarkedChange),
            |context| async move {
                let mut stream = client.restore(context).await?;
                while let Some(chunk) = chunks.next() {
                    self.begin_if_last(&chunk)?;
                    stream.send(&chunk).await?;
                    if let Some(watch) = &mut watch {
                        watch(RestoreState::Sent(total - left(&chunks)));
                    }
                }
                stream.close_and_recv().await
            },
        )
    }

    /// Marks the begin of the change: the agent ignores a file without its last part.
    fn begin_if_last(&self, chunk: &wire::RestoreChunk) -> ttrpc::Result<()> {
        if !chunk.last {
            return Ok(());
        }
        let begun = self.interrupt.begin_change();
        begun.map_err(|failure| status::from_failure(&failure))
    }

    /// Lists one service or all, in the kernel's order.
    pub fn ipvs_table(
        &self,
        only: Option<ServiceId>,
        detail: Detail,
    ) -> Result<Vec<ListedService>, Failure> {
        let client = self.ipvs_client();
        let request = convert::table_request(only, detail);
        self.call(LIST, |context| async move {
            let stream = client.table(context, &request).await?;
            collect(stream, MESSAGE_TIMEOUT, append_rows).await
        })?
    }

    /// Lists the services and servers as rules.
    pub(crate) fn ipvs_rules(&self) -> Result<Table, Failure> {
        let mut table = Table::default();
        for listed in self.ipvs_table(None, Detail::Rules)? {
            table.insert(listed.service, &listed.servers);
        }
        Ok(table)
    }

    /// Reads version, timeouts and sync daemons.
    pub fn ipvs_status(&self) -> Result<Status, Failure> {
        let client = self.ipvs_client();
        let request = convert::status_request();
        let reply = self.call(SHORT.reading(), |context| client.status(context, &request))?;
        convert::status(&reply).map_err(protocol_error)
    }

    /// Lists the connection table.
    pub fn ipvs_connections(&self) -> Result<Vec<Connection>, Failure> {
        let client = self.ipvs_client();
        let request = wire::ConnectionsRequest::default();
        self.call(LIST, |context| async move {
            let stream = client.connections(context, &request).await?;
            collect(stream, FIRST_CONNECTION_TIMEOUT, append_connections).await
        })?
    }
}

fn append_rows(list: &mut List<ListedService>, chunk: &wire::TableChunk) -> Result<(), Failure> {
    Bulk::Rows.check(chunk.layout).map_err(protocol_error)?;
    let mut reader = Reader::new(&chunk.rows);
    while !reader.is_empty() {
        match TableRow::unpack(&mut reader).map_err(protocol_error)? {
            TableRow::Service(service) => list.push(service, size_of::<ListedService>())?,
            TableRow::Server(server) => {
                list.grow(size_of_val(&server))?;
                let service = list.values.last_mut().ok_or_else(|| {
                    Failure::new(Kind::Other, "the guest lists a server without its service")
                })?;
                service.servers.push(server);
            }
        }
    }
    Ok(())
}

fn append_connections(
    list: &mut List<Connection>,
    chunk: &wire::ConnectionsChunk,
) -> Result<(), Failure> {
    for connection in convert::connections(chunk).map_err(protocol_error)? {
        let engine = connection.engine.as_ref();
        let engine = engine.map_or(0, |(name, data)| name.capacity() + data.capacity());
        let texts = connection.protocol.capacity() + connection.state.capacity() + engine;
        list.push(connection, size_of::<Connection>() + texts)?;
    }
    Ok(())
}
