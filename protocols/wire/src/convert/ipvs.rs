//! IPVS to wire and back: both ends check alike, since neither trusts the other.

use super::{ip, ip_bytes};
use crate::proto::ipvs as wire;
use patchbay_codec::{pack, unpack};
use patchbay_types::ipvs::{
    Change, Connection, Detail, Peer, RestoreMode, Restored, ServiceId, Status,
};
use patchbay_types::{FieldError, InvalidValue};

/// Longest text of a connection that is taken from a guest; the kernel's are far shorter.
const MAX_TEXT: usize = 64;
/// There is one master and one backup.
const MAX_DAEMONS: usize = 2;

fn port(number: u32) -> Result<u16, InvalidValue> {
    u16::try_from(number)
        .map_err(|_| InvalidValue::new(&number.to_string(), "a port is 0 to 65535"))
}

fn missing(field: &str) -> FieldError {
    InvalidValue::new("", "it is missing").in_field(field)
}

/// One change, and how many rules there may be afterwards.
#[must_use]
pub fn change_request(change: &Change, max_rules: u32) -> wire::ChangeRequest {
    wire::ChangeRequest {
        change: pack(change),
        max_rules,
        ..wire::ChangeRequest::default()
    }
}

/// The mode as it stands in the first chunk of a rule file.
#[must_use]
pub fn mode_number(mode: RestoreMode) -> u32 {
    match mode {
        RestoreMode::Empty => 0,
        RestoreMode::Replace => 1,
        RestoreMode::Merge => 2,
    }
}

/// The mode of the first chunk of a rule file.
///
/// # Errors
/// A number that is none.
pub fn mode(number: u32) -> Result<RestoreMode, FieldError> {
    match number {
        0 => Ok(RestoreMode::Empty),
        1 => Ok(RestoreMode::Replace),
        2 => Ok(RestoreMode::Merge),
        _ => Err(InvalidValue::new(&number.to_string(), "a mode is 0, 1 or 2").in_field("mode")),
    }
}

impl From<Restored> for wire::RestoreReply {
    fn from(restored: Restored) -> Self {
        Self {
            added: restored.added,
            edited: restored.edited,
            deleted: restored.deleted,
            ..Self::default()
        }
    }
}

impl From<&wire::RestoreReply> for Restored {
    fn from(wire: &wire::RestoreReply) -> Self {
        Self {
            added: wire.added,
            edited: wire.edited,
            deleted: wire.deleted,
        }
    }
}

/// One service or all, and how much of them.
#[must_use]
pub fn table_request(only: Option<ServiceId>, detail: Detail) -> wire::TableRequest {
    wire::TableRequest {
        service: only.map(|id| pack(&id)).unwrap_or_default(),
        detail: match detail {
            Detail::Rules => 0,
            Detail::Full => 1,
        },
        ..wire::TableRequest::default()
    }
}

/// Reads which services are asked for, and how much of them.
///
/// # Errors
/// A service or a detail that is none.
pub fn table_asked(wire: &wire::TableRequest) -> Result<(Option<ServiceId>, Detail), FieldError> {
    let only = (!wire.service.is_empty()).then(|| unpack(&wire.service));
    let detail = match wire.detail {
        0 => Detail::Rules,
        1 => Detail::Full,
        number => {
            let rule = "a detail is 0 or 1";
            return Err(InvalidValue::new(&number.to_string(), rule).in_field("detail"));
        }
    };
    Ok((only.transpose()?, detail))
}

impl From<&Status> for wire::StatusReply {
    fn from(status: &Status) -> Self {
        Self {
            version: status.version,
            table_size: status.table_size,
            timeouts: pack(&status.timeouts),
            daemons: status.daemons.iter().map(pack).collect(),
            ..Self::default()
        }
    }
}

/// Reads the state of IPVS as a whole.
///
/// # Errors
/// One that breaks a rule.
pub fn status(wire: &wire::StatusReply) -> Result<Status, FieldError> {
    let daemons = wire.daemons.iter().take(MAX_DAEMONS);
    Ok(Status {
        version: wire.version,
        table_size: wire.table_size,
        timeouts: unpack(&wire.timeouts)?,
        daemons: daemons
            .map(|daemon| unpack(daemon))
            .collect::<Result<_, _>>()?,
    })
}

fn peer_to_wire(peer: Peer) -> wire::Peer {
    wire::Peer {
        address: ip_bytes(peer.address),
        port: peer.port.into(),
        ..wire::Peer::default()
    }
}

fn peer(wire: Option<&wire::Peer>, field: &str) -> Result<Peer, FieldError> {
    let wire = wire.ok_or_else(|| missing(field))?;
    Ok(Peer {
        address: ip(&wire.address).map_err(|bad| bad.in_field(field))?,
        port: port(wire.port).map_err(|bad| bad.in_field(field))?,
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
pub fn connections(wire: &wire::ConnectionsChunk) -> Result<Vec<Connection>, FieldError> {
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
