//! RawReply of an agent that has introduced itself, and truths that a terminal would obey.

use patchbay_codec::pack;
use patchbay_tests::raw_agent::{
    RawReply, RawRequest, frame, reply, reply_bytes, stream_end, stream_message,
};
use patchbay_types::failure::Kind;
use patchbay_types::{Route, Scope};
use patchbay_wire::proto::agent::{HelloReply, Interface, ListInterfacesReply, ListRoutesReply};
use patchbay_wire::proto::ipvs::ConnectionsChunk;
use ttrpc::proto::MESSAGE_TYPE_DATA;

use super::case::{
    CONNECTIONS, Case, LIST, Liar, OBEYED, ROUTES, all, dripping, endless, once, then_silence, to,
};
use super::tables::obeyed_connection;

/// The same small route again and again: 13 bytes each on their way, and much more here.
fn many_routes(count: usize) -> ListRoutesReply {
    ListRoutesReply {
        routes: pack(&route("lo")).repeat(count),
        ..ListRoutesReply::default()
    }
}

fn routes(request: &RawRequest, lies: impl FnOnce() -> Vec<u8>) -> Option<RawReply> {
    to(request, "ListRoutes", || once(lies()))
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

/// Data of a stream, where there is none.
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
    // In place of the family of its destination.
    route[0] = 7;
    let reply = ListRoutesReply {
        routes: route,
        ..ListRoutesReply::default()
    };
    routes(request, || reply(request, &reply))
}

fn a_million_interfaces(request: &RawRequest) -> Option<RawReply> {
    let nothing = reply_bytes(request, [0x0a, 0x00].repeat(1_500_000));
    to(request, "ListInterfaces", || once(nothing))
}

#[test]
fn malformed_route_replies_are_refused() {
    let broken = "the agent's answer breaks the interface";
    let many = "at most 32768 routes are taken";
    let much = "the agent sends more than an answer may have";
    let closed = "connection to the agent lost";
    let late = "gave no answer in 10 s";
    let cases: [(&str, Liar, Kind, &str); 9] = [
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
    let refused = |(name, liar, kind, says)| Case::refused(name, ROUTES, liar, kind, says);
    let (name, many) = ("interfaces of nothing", "at most 4096 are taken");
    let interfaces = Case::refused(name, LIST, a_million_interfaces, Kind::Other, many);
    let cases = cases.map(refused).into_iter().chain([interfaces]);
    all(&cases.collect::<Vec<_>>());
}

/// The kernel takes all but '/', ':' and spaces in a name.
const NAME: &str = "\x1b[2J\u{202e}\u{9b}m\x07";

fn route(device: &str) -> Route {
    Route {
        dest: "10.0.0.0/8".parse().unwrap(),
        gateway: None,
        source: None,
        device: device.to_owned(),
        scope: Scope::LINK,
        metric: 0,
    }
}

#[test]
fn guest_strings_are_escaped() {
    let shown = |name, words, liar| Case {
        kind: Ok(()),
        ..Case::refused(name, words, liar, Kind::Other, "[2J")
    };
    let routes: Liar = |request| {
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
    let connections: Liar = |request| {
        to(request, "Connections", || {
            let chunk = ConnectionsChunk {
                connections: vec![obeyed_connection()],
                ..ConnectionsChunk::default()
            };
            then_silence([stream_message(request, &chunk), stream_end(request)].concat())
        })
    };
    let greeting: Liar = |request| {
        to(request, "Hello", || {
            then_silence(reply(
                request,
                &HelloReply {
                    api_version: patchbay_wire::API_VERSION,
                    agent_version: OBEYED.to_owned(),
                    kernel: OBEYED.to_owned(),
                    features: vec![OBEYED.to_owned(); 60],
                    ..HelloReply::default()
                },
            ))
        })
    };
    all(&[
        shown("routes", ROUTES, routes),
        shown("connections", CONNECTIONS, connections),
        shown("a doctor's report", &["doctor", "x"], greeting),
    ]);
}

/// QEMU knows which cards are ours and where they are: the guest's word is not believed.
#[test]
fn list_ifaces_unknown_pci_paths_are_dropped() {
    let liar: Liar = |request| {
        to(request, "ListInterfaces", || {
            // One without a place, two at one where QEMU has nothing, and one at the port itself.
            let places: [&[u8]; 4] = [&[], &[8, 0], &[8, 0], &[8]];
            let cards = places.map(|path| Interface {
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
        ..Case::refused("cards", LIST, liar, Kind::Other, "null\n")
    };
    case.run();
}
