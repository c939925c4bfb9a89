//! The calls about IPVS.

use std::time::Duration;

use patchbay_codec::{Packed as _, Reader, Row};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{
    Change, Connection, Detail, Line, ListedService, RestoreMode, Restored, ServiceId, Status,
};
use patchbay_wire::convert::ipvs as convert;
use patchbay_wire::proto::ipvs as wire;
use patchbay_wire::proto::ipvs_ttrpc::IpvsClient;

use super::pieces::{GATHERED, PIECE, next};
use super::rows::{Size, TABLE};
use super::{ANSWER, Agent, context, nonsense};

/// Longest wait for a rule file to be applied, and for a table to be read: the kernel searches its
/// lists of servers linearly, and an emulated guest takes a minute for the largest.
const BULK: Duration = Duration::from_secs(300);

/// From how many bytes on a message goes: the guest never holds a large one.
const CHUNK: usize = 32 << 10;
/// More than the longest rule takes.
const ROOM: usize = 256;

impl Agent {
    fn ipvs_client(&self) -> IpvsClient {
        IpvsClient::new(self.transport.clone())
    }

    /// One change.
    pub fn ipvs_change(&self, change: &Change, max_rules: u32) -> Result<(), Failure> {
        let client = self.ipvs_client();
        let request = convert::change_request(change, max_rules);
        let call = client.change(context(ANSWER), &request);
        self.wait(ANSWER, call)?;
        Ok(())
    }

    /// A whole rule file. `progress` hears how many lines went out.
    pub fn ipvs_restore(
        &self,
        lines: &[Line],
        mode: RestoreMode,
        max_rules: u32,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Restored, Failure> {
        let client = self.ipvs_client();
        let call = async {
            let mut stream = client.restore(context(BULK)).await?;
            let mut left = lines.iter();
            loop {
                let mut rules = Vec::with_capacity(CHUNK + ROOM);
                while rules.len() < CHUNK
                    && let Some(line) = left.next()
                {
                    line.pack(&mut rules);
                }
                let chunk = wire::RestoreChunk {
                    mode: convert::mode_number(mode),
                    max_rules,
                    rules,
                    last: left.as_slice().is_empty(),
                    ..wire::RestoreChunk::default()
                };
                stream.send(&chunk).await?;
                progress(lines.len() - left.as_slice().len());
                if chunk.last {
                    return stream.close_and_recv().await;
                }
            }
        };
        let reply = self.wait(BULK, call)?;
        Ok((&reply).into())
    }

    /// One service or all, in the kernel's order.
    pub fn ipvs_table(
        &self,
        only: Option<ServiceId>,
        detail: Detail,
    ) -> Result<Vec<ListedService>, Failure> {
        let client = self.ipvs_client();
        let request = convert::table_request(only, detail);
        let call = async {
            let mut table = Ok(Table::default());
            let mut stream = client.table(context(BULK), &request).await?;
            while let Some(chunk) = next(&mut stream, PIECE).await? {
                table = table.and_then(|table| table.with(&chunk.rows));
                if table.is_err() {
                    break;
                }
            }
            Ok(table)
        };
        let table = self.wait_for(TABLE, BULK, call)?;
        Ok(table?.services)
    }

    /// Version, timeouts, daemons.
    pub fn ipvs_status(&self) -> Result<Status, Failure> {
        let client = self.ipvs_client();
        let request = wire::StatusRequest::default();
        let call = client.status(context(ANSWER), &request);
        let reply = self.wait(ANSWER, call)?;
        convert::status(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// The connection table.
    pub fn ipvs_connections(&self) -> Result<Vec<Connection>, Failure> {
        let client = self.ipvs_client();
        let request = wire::ConnectionsRequest::default();
        let call = async {
            let mut rows = Ok(Rows::default());
            let mut stream = client.connections(context(BULK), &request).await?;
            let mut patience = GATHERED;
            while let Some(chunk) = next(&mut stream, patience).await? {
                patience = PIECE;
                rows = rows.and_then(|rows| rows.with(&chunk));
                if rows.is_err() {
                    break;
                }
            }
            Ok(rows)
        };
        let rows = self.wait_for(TABLE, BULK, call)?;
        Ok(rows?.connections)
    }
}

/// A table as far as it has come.
#[derive(Default)]
struct Table {
    services: Vec<ListedService>,
    size: Size,
}

impl Table {
    /// The rows of one message more.
    fn with(mut self, rows: &[u8]) -> Result<Self, Failure> {
        let mut reader = Reader::new(rows);
        while !reader.is_empty() {
            match Row::unpack(&mut reader).map_err(|invalid| nonsense(&invalid))? {
                Row::Service(service) => {
                    self.size.grow(size_of_val(&service))?;
                    self.services.push(service);
                }
                Row::Server(server) => {
                    self.size.grow(size_of_val(&server))?;
                    let last = self.services.last_mut();
                    last.ok_or_else(orphan)?.servers.push(server);
                }
            }
        }
        Ok(self)
    }
}

/// Connections as far as they have come.
#[derive(Default)]
struct Rows {
    connections: Vec<Connection>,
    size: Size,
}

impl Rows {
    /// Those of one message more.
    fn with(mut self, chunk: &wire::ConnectionsChunk) -> Result<Self, Failure> {
        let read = convert::connections(chunk).map_err(|invalid| nonsense(&invalid))?;
        for connection in read {
            let (engine, data) = connection.engine.as_ref().map_or((0, 0), |(engine, data)| {
                (engine.capacity(), data.capacity())
            });
            let texts = connection.protocol.capacity() + connection.state.capacity();
            self.size
                .grow(size_of_val(&connection) + texts + engine + data)?;
            self.connections.push(connection);
        }
        Ok(self)
    }
}

fn orphan() -> Failure {
    Failure::new(Kind::Other, "the guest lists a server without its service")
}
