//! Malformed replies after a valid handshake, and valid replies with terminal control characters.

use patchbay_codec::pack;
use patchbay_tests::raw_agent::{
    RawReply, RawRequest, frame, reply, reply_bytes, stream_end, stream_message,
};
use patchbay_types::failure::Kind;
use patchbay_types::{Route, RouteRequest, RouteSpec};
use patchbay_wire::proto::agent::{HelloReply, Interface, ListInterfacesReply, ListRoutesReply};
use patchbay_wire::proto::ipvs::ConnectionsChunk;
use ttrpc::proto::MESSAGE_TYPE_DATA;

use super::case::{
    CONNECTIONS, CONTROLS, Case, LIST, ROUTES, Respond, dripping, endless, once, run_all,
    then_silence, to,
};
use super::tables::connection_with_controls;

/// Returns copies of one small route, 13 bytes each on the wire and much more in memory.
fn many_routes(count: usize) -> ListRoutesReply {
    ListRoutesReply {
        routes: pack(&route("lo")).repeat(count),
        ..ListRoutesReply::default()
    }
}

fn routes(request: &RawRequest, bytes: impl FnOnce() -> Vec<u8>) -> Option<RawReply> {
    to(request, "ListRoutes", || once(bytes()))
}

fn silence(_: &RawRequest) -> Option<RawReply> {
    None
}

fn drip(request: &RawRequest) -> Option<RawReply> {
    let bytes = reply(request, &many_routes(100));
    to(request, "ListRoutes", || dripping(bytes))
}

fn hang_up(request: &RawRequest) -> Option<RawReply> {
    routes(request, Vec::new)
}

fn another_type(request: &RawRequest) -> Option<RawReply> {
    routes(request, || reply_bytes(request, vec![0xff; 100]))
}

fn too_many(request: &RawRequest) -> Option<RawReply> {
    routes(request, || reply(request, &many_routes(40_000)))
}

fn far_too_many(request: &RawRequest) -> Option<RawReply> {
    routes(request, || reply(request, &many_routes(1 << 17)))
}

fn too_much(request: &RawRequest) -> Option<RawReply> {
    routes(request, || reply(request, &many_routes(260_000)))
}

/// Sends stream data in reply to a unary call.
fn a_stream(request: &RawRequest) -> Option<RawReply> {
    let data = frame(
        1 << 20,
        request.stream,
        MESSAGE_TYPE_DATA,
        &vec![0; 1 << 20],
    );
    to(request, "ListRoutes", || endless(data))
}

fn no_address(request: &RawRequest) -> Option<RawReply> {
    let mut route = pack(&route("lo"));
    // Overwrites the address family of the destination.
    route[0] = 7;
    let message = ListRoutesReply {
        routes: route,
        ..ListRoutesReply::default()
    };
    routes(request, || reply(request, &message))
}

fn a_million_interfaces(request: &RawRequest) -> Option<RawReply> {
    let nothing = reply_bytes(request, [0x0a, 0x00].repeat(1_500_000));
    to(request, "ListInterfaces", || once(nothing))
}

#[test]
fn malformed_route_replies_are_refused() {
    let broken = "invalid response from the agent";
    let many = "at most 32768 routes are accepted";
    let much = "the agent sends more than an answer may have";
    let closed = "connection to the agent lost";
    let late = "gave no answer in 10 s";
    let cases: [(&str, Respond, Kind, &str); 9] = [
        ("silence", silence, Kind::Timeout, late),
        ("by drops", drip, Kind::Timeout, late),
        ("the end", hang_up, Kind::Other, closed),
        ("another type", another_type, Kind::Other, closed),
        ("too many", too_many, Kind::Other, many),
        ("far too many", far_too_many, Kind::Other, many),
        ("more than is read", too_much, Kind::Other, much),
        ("a stream", a_stream, Kind::Other, closed),
        ("no address", no_address, Kind::Other, broken),
    ];
    let refused =
        |(name, respond, kind, output)| Case::refused(name, ROUTES, respond, kind, output);
    let (name, many) = ("interfaces of nothing", "at most 4096 are accepted");
    let interfaces = Case::refused(name, LIST, a_million_interfaces, Kind::Other, many);
    let cases = cases.map(refused).into_iter().chain([interfaces]);
    run_all(&cases.collect::<Vec<_>>());
}

/// The kernel allows any characters in a name except '/', ':' and spaces.
const NAME: &str = "\x1b[2J\u{202e}\u{9b}m\x07";

fn route(device: &str) -> Route {
    let request = RouteRequest::open("10.0.0.0/8".parse().unwrap(), device.parse().unwrap());
    Route {
        protocol: None,
        ..RouteSpec::new(request).unwrap().resolve()
    }
}

#[test]
fn guest_strings_are_escaped() {
    let shown = |name, words, respond| Case {
        kind: Ok(()),
        ..Case::refused(name, words, respond, Kind::Other, "[2J")
    };
    let routes: Respond = |request| {
        to(request, "ListRoutes", || {
            then_silence(reply(
                request,
                &ListRoutesReply {
                    routes: pack(&route(NAME)),
                    ..ListRoutesReply::default()
                },
            ))
        })
    };
    let connections: Respond = |request| {
        to(request, "Connections", || {
            let chunk = ConnectionsChunk {
                connections: vec![connection_with_controls()],
                ..ConnectionsChunk::default()
            };
            then_silence([stream_message(request, &chunk), stream_end(request)].concat())
        })
    };
    let greeting: Respond = |request| {
        to(request, "Hello", || {
            then_silence(reply(
                request,
                &HelloReply {
                    api_version: patchbay_wire::API_VERSION,
                    agent_version: CONTROLS.to_owned(),
                    kernel: CONTROLS.to_owned(),
                    features: vec![CONTROLS.to_owned(); 60],
                    ..HelloReply::default()
                },
            ))
        })
    };
    run_all(&[
        shown("routes", ROUTES, routes),
        shown("connections", CONNECTIONS, connections),
        shown("a doctor's report", &["doctor", "x"], greeting),
    ]);
}

/// Only cards that QEMU has at the reported PCI path are listed.
#[test]
fn list_ifaces_unknown_pci_paths_are_dropped() {
    let respond: Respond = |request| {
        to(request, "ListInterfaces", || {
            // One without a path, two at a path that is empty in QEMU, one at the root port itself.
            let paths: [&[u8]; 4] = [&[], &[8, 0], &[8, 0], &[8]];
            let cards = paths.map(|path| Interface {
                name: NAME.to_owned(),
                mac: vec![2, 0, 0, 0, 0, 1],
                mtu: 1500,
                pci_path: path.to_vec(),
                ..Interface::default()
            });
            then_silence(reply(
                request,
                &ListInterfacesReply {
                    interfaces: cards.to_vec(),
                    ..ListInterfacesReply::default()
                },
            ))
        })
    };
    let case = Case {
        kind: Ok(()),
        ..Case::refused("cards", LIST, respond, Kind::Other, "null\n")
    };
    case.run();
}
