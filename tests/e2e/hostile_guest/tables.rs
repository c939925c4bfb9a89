//! Endless and slow tables.

use std::time::Duration;

use patchbay_tests::raw_agent::{RawReply, RawRequest, frame, stream_message};
use patchbay_types::failure::Kind;
use patchbay_wire::proto::conntrack::ListChunk;
use patchbay_wire::proto::ipvs::{Connection, ConnectionsChunk, Peer, TableChunk};
use ttrpc::proto::MESSAGE_TYPE_DATA;

use super::case::{
    CONNECTIONS, CONTROLS, Case, FLOWS, Respond, TABLE, dripping, endless, run_all, then_silence,
    to,
};

fn rows(bytes: Vec<u8>) -> TableChunk {
    TableChunk {
        rows: bytes,
        ..TableChunk::default()
    }
}

pub(crate) fn connection_with_controls() -> Connection {
    let peer = || {
        Some(Peer {
            address: vec![10, 0, 0, 1],
            port: 80,
            ..Peer::default()
        })
    };
    Connection {
        protocol: CONTROLS.to_owned(),
        client: peer().into(),
        virtual_end: peer().into(),
        server: peer().into(),
        state: CONTROLS.to_owned(),
        engine: CONTROLS.to_owned(),
        engine_data: CONTROLS.to_owned(),
        ..Connection::default()
    }
}

/// An encoded service: protocol, address, port, scheduler, no persistence, a full netmask, no
/// scheduling flags, engine or counters.
const SERVICE: &[u8] = b"\x01\x06\x04\x0a\0\0\x01\0\x50\x02rr\0\xff\xff\xff\xff\x0f\0\0\0\0";

fn services(request: &RawRequest) -> Option<RawReply> {
    let rows = rows(SERVICE.repeat(1000));
    to(request, "Table", || endless(stream_message(request, &rows)))
}

fn nothing(request: &RawRequest) -> Option<RawReply> {
    let rows = rows(Vec::new());
    to(request, "Table", || endless(stream_message(request, &rows)))
}

fn noise(request: &RawRequest) -> Option<RawReply> {
    let rows = rows(vec![0xa5; 1000]);
    to(request, "Table", || endless(stream_message(request, &rows)))
}

fn a_server_first(request: &RawRequest) -> Option<RawReply> {
    let mut server = vec![2, 4, 10, 0, 0, 1, 0, 80];
    server.extend([0; 12]);
    to(request, "Table", || {
        endless(stream_message(request, &rows(server)))
    })
}

fn connections(request: &RawRequest) -> Option<RawReply> {
    let chunk = ConnectionsChunk {
        connections: vec![connection_with_controls(); 1000],
        ..ConnectionsChunk::default()
    };
    to(request, "Connections", || {
        endless(stream_message(request, &chunk))
    })
}

fn no_connections(request: &RawRequest) -> Option<RawReply> {
    let nothing = [0x0a, 0x00].repeat(2_000_000);
    let data = frame(4_000_000, request.stream, MESSAGE_TYPE_DATA, &nothing);
    to(request, "Connections", || endless(data))
}

/// Sends data while the request is still being sent, and reads nothing more.
fn flood(request: &RawRequest) -> Option<RawReply> {
    let data = frame(1000, request.stream, MESSAGE_TYPE_DATA, &[0; 1000]);
    to(request, "Restore", || endless(data))
}

const RESTORE: &[&str] = &[
    "kata-ipvs",
    "ipvsadm",
    "--restore",
    "-",
    "--max-rules",
    "300000",
    "x",
];

#[test]
fn endless_tables_are_cut_off() {
    let much = "the agent sends more than an answer may have";
    let taken = "the guest lists more than is taken";
    let broken = "invalid response from the agent";
    let cases: [(&str, &[&str], Respond, &str); 7] = [
        ("services", TABLE, services, taken),
        (
            "rows of nothing",
            TABLE,
            nothing,
            "more messages than a list may have",
        ),
        ("noise for rows", TABLE, noise, broken),
        (
            "a server first",
            TABLE,
            a_server_first,
            "without its service",
        ),
        ("connections", CONNECTIONS, connections, taken),
        (
            "connections of nothing",
            CONNECTIONS,
            no_connections,
            broken,
        ),
        ("a flood while rules go out", RESTORE, flood, much),
    ];
    let rules = |number| format!("-A -f {number} -s rr\n");
    let rules: String = (1..200_000).map(rules).collect();
    run_all(&cases.map(|(name, words, respond, output)| Case {
        input: rules.clone(),
        time_limit: Duration::from_secs(90),
        ..Case::refused(name, words, respond, Kind::Other, output)
    }));
}

fn services_by_drops(request: &RawRequest) -> Option<RawReply> {
    let rows = rows(SERVICE.repeat(1000));
    to(request, "Table", || {
        dripping(stream_message(request, &rows))
    })
}

fn one_service_and_silence(request: &RawRequest) -> Option<RawReply> {
    let rows = rows(SERVICE.to_vec());
    to(request, "Table", || {
        then_silence(stream_message(request, &rows))
    })
}

fn connections_by_drops(request: &RawRequest) -> Option<RawReply> {
    let chunk = ConnectionsChunk {
        connections: vec![connection_with_controls(); 10],
        ..ConnectionsChunk::default()
    };
    let chunk = stream_message(request, &chunk);
    let first = std::iter::once(chunk.clone());
    to(request, "Connections", || {
        Box::new(first.chain(dripping(chunk)))
    })
}

fn flows_by_drops(request: &RawRequest) -> Option<RawReply> {
    let chunk = ListChunk {
        rows: vec![0; 10_000],
        ..ListChunk::default()
    };
    to(request, "List", || {
        dripping(stream_message(request, &chunk))
    })
}

#[test]
fn slow_tables_time_out() {
    let cases: [(&str, &[&str], Respond); 4] = [
        ("services by drops", TABLE, services_by_drops),
        ("one service", TABLE, one_service_and_silence),
        ("connections by drops", CONNECTIONS, connections_by_drops),
        ("flows by drops", FLOWS, flows_by_drops),
    ];
    let late = "the agent sent nothing more for 20 s";
    run_all(&cases.map(|(name, words, respond)| Case {
        time_limit: Duration::from_secs(28),
        ..Case::refused(name, words, respond, Kind::Timeout, late)
    }));
}
