//! IPVS. Both ends check everything, since neither trusts the other.

use super::{ip, ip_bytes, narrow};
use crate::proto::ipvs as wire;
use patchbay_codec::{Bulk, Layered as _, pack, unpack};
use patchbay_types::ipvs::{
    Change, Connection, Detail, Peer, RestoreMode, RestoreProgress, Restored, ServiceId, Status,
};
use patchbay_types::{FieldError, InvalidValue};

/// Maximum length of a text of a connection, in characters. The kernel's texts are far shorter.
const MAX_TEXT_CHARS: usize = 64;
/// Maximum number of sync daemons: a master and a backup.
const MAX_DAEMONS: usize = 2;

/// Builds the request for a change that leaves at most `max_rules` services and servers.
#[must_use]
pub fn change_request(change: &Change, max_rules: u32) -> wire::ChangeRequest {
    wire::ChangeRequest {
        change: pack(change),
        max_rules,
        layout: change.layout(),
        ..wire::ChangeRequest::default()
    }
}

/// Number of a mode in the first chunk of a rule file.
#[must_use]
pub fn mode_number(mode: RestoreMode) -> u32 {
    match mode {
        RestoreMode::Empty => 0,
        RestoreMode::Replace => 1,
        RestoreMode::Merge => 2,
    }
}

/// Decodes the mode of the first chunk of a rule file.
///
/// # Errors
/// An unknown number.
pub fn mode(number: u32) -> Result<RestoreMode, FieldError> {
    match number {
        0 => Ok(RestoreMode::Empty),
        1 => Ok(RestoreMode::Replace),
        2 => Ok(RestoreMode::Merge),
        _ => Err(InvalidValue::new(&number, "a mode is 0, 1 or 2").in_field("mode")),
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

impl From<RestoreProgress> for wire::RestoreProgress {
    fn from(progress: RestoreProgress) -> Self {
        Self {
            done: progress.done,
            total: progress.total,
            ..Self::default()
        }
    }
}

impl From<&wire::RestoreProgress> for RestoreProgress {
    fn from(wire: &wire::RestoreProgress) -> Self {
        Self {
            done: wire.done,
            total: wire.total,
        }
    }
}

/// Builds the request that lists one service or all.
#[must_use]
pub fn table_request(only: Option<ServiceId>, detail: Detail) -> wire::TableRequest {
    wire::TableRequest {
        service: only.map(|id| pack(&id)).unwrap_or_default(),
        detail: match detail {
            Detail::Brief | Detail::Rules => 0,
            Detail::Full => 1,
        },
        brief: detail == Detail::Brief,
        max_layout: Bulk::Rows.layout(),
        ..wire::TableRequest::default()
    }
}

/// Decodes a request that lists services.
///
/// # Errors
/// An invalid service or detail.
pub fn table_filter(wire: &wire::TableRequest) -> Result<(Option<ServiceId>, Detail), FieldError> {
    let only = (!wire.service.is_empty()).then(|| unpack(&wire.service));
    let detail = match wire.detail {
        0 if wire.brief => Detail::Brief,
        0 => Detail::Rules,
        1 => Detail::Full,
        number => {
            return Err(InvalidValue::new(&number, "a detail is 0 or 1").in_field("detail"));
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

/// Builds the request for the state of IPVS.
#[must_use]
pub fn status_request() -> wire::StatusRequest {
    wire::StatusRequest {
        max_layout: Bulk::Rules.layout(),
        ..wire::StatusRequest::default()
    }
}

/// Decodes the state of IPVS.
///
/// # Errors
/// An invalid value.
pub fn status(wire: &wire::StatusReply) -> Result<Status, FieldError> {
    Bulk::Rules.check(wire.layout)?;
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

pub(super) fn peer_to_wire(peer: Peer) -> wire::Peer {
    wire::Peer {
        address: ip_bytes(peer.address),
        port: peer.port.into(),
        ..wire::Peer::default()
    }
}

pub(super) fn peer(wire: Option<&wire::Peer>, field: &str) -> Result<Peer, FieldError> {
    let missing = || InvalidValue::new("", "it is missing").in_field(field);
    let wire = wire.ok_or_else(missing)?;
    Ok(Peer {
        address: ip(&wire.address).map_err(|bad| bad.in_field(field))?,
        port: narrow(wire.port, field)?,
    })
}

/// Escapes a text of the guest, since it goes to a terminal.
fn text(text: &str) -> String {
    text.escape_debug().take(MAX_TEXT_CHARS).collect()
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

/// Decodes a part of the connection table.
///
/// # Errors
/// An invalid row.
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
