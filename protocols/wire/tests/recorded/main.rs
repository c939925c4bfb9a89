//! Messages recorded with the first release (commit afad019), so that agents and hosts of different
//! releases keep understanding each other. The fixture has a line per message: name and hex.
//!
//! Equality with the encoders of today proves both directions: an old peer reads what is sent today,
//! and the tests below read what an old peer sends.

#![allow(clippy::unwrap_used)]

mod events;
mod messages;
mod unreleased;
mod values;

use std::collections::HashMap;

use patchbay_codec::{Packed, Reader, TableRow, pack, unpack, unpack_flow};
use patchbay_types::conntrack::Filter;
use patchbay_types::failure::Kind;
use patchbay_types::ipvs::{Change, Reading, RuleLine, Setting};
use patchbay_types::{Interface, LinkChange, LinkSpec, PciPath};
use patchbay_wire::proto::{agent, conntrack, ipvs};
use patchbay_wire::{Feature, announced_layout, convert, layouts};
use protobuf::Message;

const RECORDED: &str = include_str!("../../../../tests/fixtures/wire/afad019.txt");

fn recorded(fixture: &'static str) -> HashMap<&'static str, Vec<u8>> {
    let message = |line: &'static str| {
        let (name, digits) = line.split_once(' ').unwrap();
        (name, hex::decode(digits).unwrap())
    };
    fixture.lines().map(message).collect()
}

/// Lists the methods by the names of their recordings.
fn methods() -> Vec<String> {
    const PROTO: [(&str, &str); 4] = [
        ("", include_str!("../../proto/agent.proto")),
        ("Conntrack.", include_str!("../../proto/conntrack.proto")),
        ("Events.", include_str!("../../proto/events.proto")),
        ("Ipvs.", include_str!("../../proto/ipvs.proto")),
    ];
    let methods = PROTO.iter().flat_map(|(service, proto)| {
        let lines = proto.lines();
        let rpcs = lines.filter_map(|line| line.trim_start().strip_prefix("rpc "));
        rpcs.map(move |rpc| format!("{service}{}", rpc.split('(').next().unwrap()))
    });
    methods.collect()
}

#[track_caller]
fn message<M: Message>(fixture: &'static str, name: &str) -> M {
    M::parse_from_bytes(&recorded(fixture)[name]).unwrap()
}

/// Decodes a recorded message, encodes the value, and compares the bytes.
#[track_caller]
fn replay<M: Message, T, E: std::fmt::Debug>(
    fixture: &'static str,
    name: &str,
    decode: impl FnOnce(&M) -> Result<T, E>,
    encode: impl FnOnce(&T) -> M,
) {
    let value = decode(&message(fixture, name)).unwrap();
    let encoded = encode(&value).write_to_bytes().unwrap();
    assert_eq!(encoded, recorded(fixture)[name], "{name}");
}

#[track_caller]
fn replay_bulk<T: Packed>(bytes: &[u8]) -> Vec<T> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.is_empty() {
        values.push(T::unpack(&mut reader).unwrap());
    }
    let encoded: Vec<u8> = values.iter().flat_map(pack).collect();
    assert_eq!(encoded, bytes);
    values
}

#[test]
fn encoders_match_the_recording() {
    let recorded = recorded(RECORDED);
    let messages = messages::all();
    assert_eq!(messages.len(), recorded.len());
    for (name, bytes) in messages {
        assert_eq!(bytes, recorded[name.as_str()], "{name}");
    }
}

#[test]
fn agent_decodes_recorded_requests() {
    replay(
        RECORDED,
        "ConfigureInterface.request",
        |wire: &agent::ConfigureInterfaceRequest| {
            assert_eq!(wire.wait_ms, 30_000);
            <(PciPath, LinkSpec)>::try_from(wire)
        },
        |(path, spec)| {
            let mut request = convert::configure_request(path, spec);
            request.wait_ms = 30_000;
            request
        },
    );
    let update = |wire: &agent::UpdateInterfaceRequest| LinkChange::try_from(wire);
    replay(
        RECORDED,
        "UpdateInterface.request",
        update,
        convert::update_request,
    );
    for name in ["AddRoutes.request", "ReplaceRoutes.request"] {
        replay(RECORDED, name, convert::specs, |specs| {
            convert::routes_request(specs)
        });
    }
    replay(
        RECORDED,
        "DeleteRoutes.request",
        convert::patterns,
        |patterns| convert::delete_request(patterns),
    );
    let filter = |wire: &conntrack::DeleteRequest| Filter::try_from(wire);
    replay(RECORDED, "Conntrack.Delete.request", filter, |filter| {
        filter.into()
    });
    replay(
        RECORDED,
        "Conntrack.List.request",
        convert::conntrack::list_filter,
        |filter| values::in_layout_0(convert::conntrack::list_request(filter.as_ref())),
    );
    for number in 1..=17 {
        replay(
            RECORDED,
            &format!("Ipvs.Change.request.{number}"),
            |wire: &ipvs::ChangeRequest| unpack::<Change>(&wire.change),
            |change| convert::ipvs::change_request(change, 20_000),
        );
    }
    let restore: ipvs::RestoreChunk = message(RECORDED, "Ipvs.Restore.request");
    assert!(restore.last && convert::ipvs::mode(restore.mode).is_ok());
    assert_eq!(replay_bulk::<RuleLine>(&restore.rules).len(), 17);
    replay(
        RECORDED,
        "Ipvs.Table.request",
        convert::ipvs::table_filter,
        |(only, detail)| convert::ipvs::table_request(*only, *detail),
    );
    let set: ipvs::SetSysctlRequest = message(RECORDED, "Ipvs.SetSysctl.request");
    assert_eq!(replay_bulk::<Setting>(&set.setting).len(), 1);
}

#[test]
fn host_decodes_recorded_replies() {
    let configured: agent::Configured = message(RECORDED, "ConfigureInterface.reply");
    assert!(Interface::try_from(&*configured.interface).is_ok());
    replay(
        RECORDED,
        "ListInterfaces.reply",
        convert::interfaces,
        |interfaces| agent::ListInterfacesReply {
            interfaces: interfaces.iter().map(Into::into).collect(),
            ..Default::default()
        },
    );
    let interface = |wire: &agent::Interface| Interface::try_from(wire);
    replay(RECORDED, "UpdateInterface.reply", interface, |interface| {
        interface.into()
    });
    replay(RECORDED, "ListRoutes.reply", convert::routes, |routes| {
        convert::routes_reply(routes, 0)
    });
    let flows: conntrack::ListChunk = message(RECORDED, "Conntrack.List.reply");
    let mut reader = Reader::new(&flows.rows);
    for flow in values::flows() {
        assert_eq!(unpack_flow(&mut reader, 0), Ok(flow));
    }
    assert!(reader.is_empty());
    let table: ipvs::TableChunk = message(RECORDED, "Ipvs.Table.reply");
    let mut rows = Reader::new(&table.rows);
    assert!(matches!(
        TableRow::unpack(&mut rows),
        Ok(TableRow::Service(_))
    ));
    assert!(matches!(
        TableRow::unpack(&mut rows),
        Ok(TableRow::Server(_))
    ));
    assert!(rows.is_empty());
    replay(
        RECORDED,
        "Ipvs.Status.reply",
        convert::ipvs::status,
        |status| status.into(),
    );
    replay(
        RECORDED,
        "Ipvs.Connections.reply",
        convert::ipvs::connections,
        |connections| ipvs::ConnectionsChunk {
            connections: connections.iter().map(Into::into).collect(),
            ..Default::default()
        },
    );
    let settings: ipvs::SysctlsReply = message(RECORDED, "Ipvs.Sysctls.reply");
    assert_eq!(replay_bulk::<Reading>(&settings.readings).len(), 2);
    let status = ttrpc::proto::Status::parse_from_bytes(&recorded(RECORDED)["failure"]).unwrap();
    let failure = patchbay_wire::status::to_failure(ttrpc::Error::RpcStatus(status));
    assert_eq!(failure.kind(), Kind::Exists);
    assert_eq!(failure.errno(), Some(17));
}

#[test]
fn recorded_handshake_announces_first_features() {
    let reply: agent::HelloReply = message(RECORDED, "Hello.reply");
    let silent = agent::HelloReply::default();
    for feature in Feature::ALL {
        let first = Feature::FIRST.contains(&feature);
        assert_eq!(feature.is_announced(&reply), first, "{feature}");
        assert_eq!(feature.is_announced(&silent), first, "{feature}");
    }
    assert_eq!(announced_layout(&reply, patchbay_codec::Bulk::Routes), 0);
}

#[test]
fn newer_messages_are_decoded_without_their_new_fields() {
    let mut request: agent::RoutesRequest = message(RECORDED, "AddRoutes.request");
    let unknown = request.special_fields.mut_unknown_fields();
    unknown.add_varint(999, 7);
    unknown.add_length_delimited(1000, b"new".to_vec());
    let bytes = request.write_to_bytes().unwrap();
    let read = agent::RoutesRequest::parse_from_bytes(&bytes).unwrap();
    assert_eq!(convert::specs(&read).unwrap().len(), 3);
}

#[test]
fn unknown_layout_is_rejected() {
    let mut request: agent::RoutesRequest = message(RECORDED, "AddRoutes.request");
    request.layout = layouts().routes + 1;
    assert_eq!(convert::specs(&request).unwrap_err().field(), "layout");
}
