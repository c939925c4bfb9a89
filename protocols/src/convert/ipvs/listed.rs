//! What the guest's kernel lists, to wire and back.

use super::super::{ip, ip_bytes};
use super::{missing, port};
use crate::ipvs::{Connection, ListedServer, ListedService, Peer, Server, Service, Stats, Status};
use crate::model::{BadValue, Invalid};
use crate::wire::ipvs as wire;

/// Longest text of a connection that is taken from a guest; the kernel's are far shorter.
const MAX_TEXT: usize = 64;
/// There is one master and one backup.
const MAX_DAEMONS: usize = 2;

impl From<Stats> for wire::Stats {
    fn from(stats: Stats) -> Self {
        Self {
            counters: stats.counters.to_vec(),
            rates: stats.rates.to_vec(),
            ..Self::default()
        }
    }
}

fn stats(wire: Option<&wire::Stats>) -> Result<Stats, Invalid> {
    let wire = wire.ok_or_else(|| missing("stats"))?;
    let five = |numbers: &[u64]| {
        <[u64; 5]>::try_from(numbers)
            .map_err(|_| BadValue::new(&numbers.len().to_string(), "there are 5").at("stats"))
    };
    Ok(Stats {
        counters: five(&wire.counters)?,
        rates: five(&wire.rates)?,
    })
}

/// One item of a table: a service without its servers, or a server of the service before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableItem {
    /// Its servers follow.
    Service(ListedService),
    /// Of the service before.
    Server(ListedServer),
}

impl From<&ListedService> for wire::TableItem {
    fn from(listed: &ListedService) -> Self {
        let mut item = Self::default();
        item.set_service(wire::ListedService {
            service: Some((&listed.service).into()).into(),
            stats: Some(listed.stats.into()).into(),
            ..wire::ListedService::default()
        });
        item
    }
}

impl From<&ListedServer> for wire::TableItem {
    fn from(listed: &ListedServer) -> Self {
        let mut item = Self::default();
        item.set_server(wire::ListedServer {
            server: Some((&listed.server).into()).into(),
            active: listed.active,
            inactive: listed.inactive,
            persistent: listed.persistent,
            stats: Some(listed.stats.into()).into(),
            ..wire::ListedServer::default()
        });
        item
    }
}

/// Reads one item of a table.
///
/// # Errors
/// One that breaks a rule.
pub fn table_item(wire: &wire::TableItem) -> Result<TableItem, Invalid> {
    use wire::table_item::What;
    match wire.what.as_ref().ok_or_else(|| missing("item"))? {
        What::Service(listed) => {
            let service = listed.service.as_ref().ok_or_else(|| missing("service"))?;
            Ok(TableItem::Service(ListedService {
                service: Service::try_from(service)?,
                stats: stats(listed.stats.as_ref())?,
                servers: Vec::new(),
            }))
        }
        What::Server(listed) => {
            let server = listed.server.as_ref().ok_or_else(|| missing("server"))?;
            Ok(TableItem::Server(ListedServer {
                server: Server::try_from(server)?,
                active: listed.active,
                inactive: listed.inactive,
                persistent: listed.persistent,
                stats: stats(listed.stats.as_ref())?,
            }))
        }
    }
}

impl From<&Status> for wire::StatusReply {
    fn from(status: &Status) -> Self {
        Self {
            version: status.version,
            table_size: status.table_size,
            timeouts: Some(status.timeouts.into()).into(),
            daemons: status.daemons.iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// Reads the state of IPVS as a whole.
///
/// # Errors
/// One that breaks a rule.
pub fn status(wire: &wire::StatusReply) -> Result<Status, Invalid> {
    let timeouts = wire.timeouts.as_ref().ok_or_else(|| missing("timeouts"))?;
    let daemons = wire.daemons.iter().take(MAX_DAEMONS);
    Ok(Status {
        version: wire.version,
        table_size: wire.table_size,
        timeouts: timeouts.try_into()?,
        daemons: daemons.map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

fn peer_to_wire(peer: Peer) -> wire::Peer {
    wire::Peer {
        address: ip_bytes(peer.address),
        port: peer.port.into(),
        ..wire::Peer::default()
    }
}

fn peer(wire: Option<&wire::Peer>, field: &str) -> Result<Peer, Invalid> {
    let wire = wire.ok_or_else(|| missing(field))?;
    Ok(Peer {
        address: ip(&wire.address).map_err(|bad| bad.at(field))?,
        port: port(wire.port).map_err(|bad| bad.at(field))?,
    })
}

/// Text of a guest, which goes to a terminal.
fn text(text: &str) -> String {
    text.escape_debug().take(MAX_TEXT).collect()
}

impl From<&Connection> for wire::Connection {
    fn from(connection: &Connection) -> Self {
        let (engine, data) = connection.engine.clone().unwrap_or_default();
        Self {
            protocol: connection.protocol.clone(),
            client: Some(peer_to_wire(connection.client)).into(),
            virtual_end: Some(peer_to_wire(connection.virtual_end)).into(),
            server: Some(peer_to_wire(connection.server)).into(),
            state: connection.state.clone(),
            expires: connection.expires,
            engine,
            engine_data: data,
            ..Self::default()
        }
    }
}

/// Reads a piece of the connection table.
///
/// # Errors
/// A row that breaks a rule.
pub fn connections(wire: &wire::ConnectionsChunk) -> Result<Vec<Connection>, Invalid> {
    let read = |wire: &wire::Connection| {
        let engine = (text(&wire.engine), text(&wire.engine_data));
        Ok(Connection {
            protocol: text(&wire.protocol),
            client: peer(wire.client.as_ref(), "client")?,
            virtual_end: peer(wire.virtual_end.as_ref(), "virtual_end")?,
            server: peer(wire.server.as_ref(), "server")?,
            state: text(&wire.state),
            expires: wire.expires,
            engine: (!wire.engine.is_empty()).then_some(engine),
        })
    };
    wire.connections.iter().map(read).collect()
}
