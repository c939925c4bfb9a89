//! The calls about IPVS.

use std::time::Duration;

use patchbay_protocols::convert::ipvs as convert;
use patchbay_protocols::failure::{Failure, Kind};
use patchbay_protocols::ipvs::{
    Change, Connection, Detail, Line, ListedService, RestoreMode, Restored, ServiceId, Status,
};
use patchbay_protocols::packed::{Packed as _, Reader, Row};
use patchbay_protocols::wire::ipvs as wire;
use patchbay_protocols::wire::ipvs_ttrpc::IpvsClient;
use ttrpc::context;

use super::{ANSWER, Agent, MAX_LISTED, bounded, nonsense};

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
    pub(crate) fn ipvs_change(&self, change: &Change, max_rules: u32) -> Result<(), Failure> {
        let client = self.ipvs_client();
        let request = convert::change_request(change, max_rules);
        let call = client.change(context::with_duration(ANSWER), &request);
        self.wait(ANSWER, call)?;
        Ok(())
    }

    /// A whole rule file. `progress` hears how many lines went out.
    pub(crate) fn ipvs_restore(
        &self,
        lines: &[Line],
        mode: RestoreMode,
        max_rules: u32,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Restored, Failure> {
        let client = self.ipvs_client();
        let call = async {
            let mut stream = client.restore(context::with_duration(BULK)).await?;
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
    pub(crate) fn ipvs_table(
        &self,
        only: Option<ServiceId>,
        detail: Detail,
    ) -> Result<Vec<ListedService>, Failure> {
        let client = self.ipvs_client();
        let request = convert::table_request(only, detail);
        let call = async {
            let mut table = Ok(Table::default());
            let mut stream = client.table(context::with_duration(BULK), &request).await?;
            while let Some(chunk) = stream.recv().await? {
                table = table.and_then(|table| table.with(&chunk.rows));
                if table.is_err() {
                    break;
                }
            }
            Ok(table)
        };
        let table = self.wait(BULK, call)?;
        Ok(table?.services)
    }

    /// Version, timeouts, daemons.
    pub(crate) fn ipvs_status(&self) -> Result<Status, Failure> {
        let client = self.ipvs_client();
        let request = wire::StatusRequest::default();
        let call = client.status(context::with_duration(ANSWER), &request);
        let reply = self.wait(ANSWER, call)?;
        convert::status(&reply).map_err(|invalid| nonsense(&invalid))
    }

    /// The connection table.
    pub(crate) fn ipvs_connections(&self) -> Result<Vec<Connection>, Failure> {
        let client = self.ipvs_client();
        let request = wire::ConnectionsRequest::default();
        let call = async {
            let mut chunks = Vec::new();
            let context = context::with_duration(BULK);
            let mut stream = client.connections(context, &request).await?;
            let mut rows = 0;
            while let Some(chunk) = stream.recv().await? {
                rows += chunk.connections.len();
                chunks.push(chunk);
                if rows > MAX_LISTED {
                    break;
                }
            }
            Ok((rows, chunks))
        };
        let (rows, chunks) = self.wait(BULK, call)?;
        bounded(rows)?;
        let mut connections = Vec::with_capacity(rows);
        for chunk in &chunks {
            let read = convert::connections(chunk).map_err(|invalid| nonsense(&invalid))?;
            connections.extend(read);
        }
        Ok(connections)
    }
}

/// A table as far as it has come.
#[derive(Default)]
struct Table {
    services: Vec<ListedService>,
    rows: usize,
}

impl Table {
    /// The rows of one message more.
    fn with(mut self, rows: &[u8]) -> Result<Self, Failure> {
        let mut reader = Reader::new(rows);
        while !reader.is_empty() {
            match Row::unpack(&mut reader).map_err(|invalid| nonsense(&invalid))? {
                Row::Service(service) => self.services.push(service),
                Row::Server(server) => {
                    let last = self.services.last_mut();
                    last.ok_or_else(orphan)?.servers.push(server);
                }
            }
            self.rows += 1;
            bounded(self.rows)?;
        }
        Ok(self)
    }
}

fn orphan() -> Failure {
    Failure::new(Kind::Other, "the guest lists a server without its service")
}
