//! Protobuf messages: a decoded value encodes to a message that decodes to the same value.

use std::fmt::{Debug, Display};

use patchbay_types::conntrack::Filter;
use patchbay_types::{Interface, LinkChange, LinkSpec, PciPath};
use patchbay_wire::convert::conntrack::{list_filter, list_request};
use patchbay_wire::convert::ipvs::{
    connections, mode, mode_number, status, table_filter, table_request,
};
use patchbay_wire::convert::{self, configure_request};
use patchbay_wire::proto::{agent, conntrack, failure, ipvs};
use protobuf::Message;

use crate::{harmless, pick};

/// The first byte selects the type of the message.
pub(crate) fn run(data: &[u8]) {
    let (kind, bytes) = pick(data);
    match kind {
        b'0' => kept::<agent::ConfigureInterfaceRequest, (PciPath, LinkSpec), _>(
            bytes,
            |wire| wire.try_into(),
            |(path, spec)| configure_request(path, spec),
        ),
        b'1' => kept::<agent::Interface, Interface, _>(
            bytes,
            |wire| wire.try_into(),
            |value| value.into(),
        ),
        b'2' => interfaces(bytes),
        b'3' => kept::<_, LinkChange, _>(
            bytes,
            |wire: &agent::UpdateInterfaceRequest| wire.try_into(),
            convert::update_request,
        ),
        b'4' => managers(bytes),
        b'5' => kept(bytes, convert::neighbors, |neighbors| {
            convert::neighbors_reply(neighbors)
        }),
        b'6' => kept(bytes, convert::neighbor_patterns, |patterns| {
            convert::delete_neighbors_request(patterns)
        }),
        b'7'..=b'9' => routes(kind, bytes),
        b'd' => kept::<ipvs::StatusReply, _, _>(bytes, status, |value| value.into()),
        b'e' => rows(bytes),
        b'f' => kept::<ipvs::TableRequest, _, _>(bytes, table_filter, |(only, detail)| {
            table_request(*only, *detail)
        }),
        b'g' => chunk(bytes),
        b'h' => kept::<conntrack::DeleteRequest, Filter, _>(
            bytes,
            |wire| wire.try_into(),
            |value| value.into(),
        ),
        b'i' => failed(bytes),
        b'j' => {
            kept::<_, Option<Filter>, _>(bytes, list_filter, |only| list_request(only.as_ref()));
        }
        b'k' => kept(bytes, convert::new_neighbors, |neighbors| {
            convert::neighbors_request(neighbors)
        }),
        _ => {}
    }
}

fn routes(kind: u8, bytes: &[u8]) {
    match kind {
        b'7' => kept(bytes, convert::specs, |specs| {
            convert::routes_request(specs)
        }),
        b'8' => kept(bytes, convert::routes, |routes| {
            convert::routes_reply(routes, 1)
        }),
        _ => kept(bytes, convert::patterns, |patterns| {
            convert::delete_request(patterns)
        }),
    }
}

/// Decodes bytes to a message and the message to a value; asserts that the value survives a round trip.
fn kept<W: Message, T: PartialEq + Debug, E: Debug + Display>(
    bytes: &[u8],
    read: impl Fn(&W) -> Result<T, E>,
    send: impl Fn(&T) -> W,
) {
    let Ok(message) = W::parse_from_bytes(bytes) else {
        return;
    };
    let value = match read(&message) {
        Ok(value) => value,
        Err(refused) => return harmless::text(&refused.to_string()),
    };
    let again = send(&value).write_to_bytes().expect("a message is encoded");
    let message = W::parse_from_bytes(&again).expect("what is sent is a message");
    assert_eq!(read(&message).expect("what is sent is accepted"), value);
}

fn interfaces(bytes: &[u8]) {
    kept(bytes, convert::interfaces, |listed| {
        agent::ListInterfacesReply {
            interfaces: listed.iter().map(Into::into).collect(),
            ..agent::ListInterfacesReply::default()
        }
    });
}

fn managers(bytes: &[u8]) {
    kept(bytes, convert::managers, |listed| {
        agent::ListManagersReply {
            managers: listed.iter().map(Into::into).collect(),
            ..agent::ListManagersReply::default()
        }
    });
}

/// Texts are escaped and truncated when they are decoded, so a round trip changes them.
fn rows(bytes: &[u8]) {
    let Ok(chunk) = ipvs::ConnectionsChunk::parse_from_bytes(bytes) else {
        return;
    };
    for row in connections(&chunk).into_iter().flatten() {
        let (engine, data) = row.engine.unwrap_or_default();
        for text in [&row.protocol, &row.state, &engine, &data] {
            harmless::text(text);
        }
    }
}

fn chunk(bytes: &[u8]) {
    if let Ok(chunk) = ipvs::RestoreChunk::parse_from_bytes(bytes)
        && let Ok(known) = mode(chunk.mode)
    {
        assert_eq!(mode_number(known), chunk.mode);
    }
}

fn failed(bytes: &[u8]) {
    let Ok(message) = failure::Failure::parse_from_bytes(bytes) else {
        return;
    };
    harmless::failure(&patchbay_wire::status::decode(&message));
}
