//! Traffic over a mirrored link, compared with that over a TAP in a bridge.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use patchbay_tests::{Card, Guest, Machine, Netns, traffic};

use super::kubernetes::{compared, row, timed};
use crate::plan::Plan;
use crate::row::{Bound, Row};
use crate::stats::Samples;

/// Bytes that are sent through a guest and back.
const THROUGH_GUEST: usize = 20 << 20;
/// Bytes that are sent between namespaces and back.
const BETWEEN_NAMESPACES: usize = 128 << 20;
const ROUND_TRIPS: u32 = 200;
/// Port of the guest's echo service.
const ECHO: u16 = 7;

/// Measures the rows.
pub(crate) fn measure(plan: Plan) -> Vec<Row> {
    let mut rows = guest(plan);
    eprintln!("bench: wire");
    rows.push(forwarding(plan));
    rows
}

/// Times work over both ways in turn.
fn rounds(plan: Plan, work: &str, way: impl Fn(usize)) -> (Vec<Duration>, Vec<Duration>) {
    eprintln!("bench: {work}");
    // Not measured: the first packets look for neighbors.
    way(0);
    way(1);
    let rounds = (0..plan.repeats).map(|_| (timed(|| way(0)).0, timed(|| way(1)).0));
    rounds.unzip()
}

fn compare(work: &'static str, with: &'static str, took: (Vec<Duration>, Vec<Duration>)) -> Row {
    let peer = compared(with, Samples::new(took.1), Bound::Faster(0.9));
    row(work, took.0, peer)
}

/// Two cards of a guest, each reached by a veth from the same namespace.
fn guest(plan: Plan) -> Vec<Row> {
    let guest = Guest::start(Machine::Q35);
    let (inside, outside) = (guest.netns(), Netns::new());
    for (link, address) in [("net1", "10.1.0.1/24"), ("port", "10.2.0.1/24")] {
        let peer = format!("type veth peer {link} netns {}", outside.name());
        inside.ip(&format!("link add {link} {peer}")).ok();
        inside.ip(&format!("link set {link} up")).ok();
        outside.ip(&format!("link set {link} up")).ok();
        outside.ip(&format!("addr add {address} dev {link}")).ok();
    }
    inside.ip("addr add 10.1.0.2/24 dev net1").ok();
    let words = ["nic", "add", guest.id(), "--link", "net1"];
    guest.patchbay(&words).ok();
    let card = Card::named("eth2").address("10.2.0.2/24");
    guest.plug(&card).ok();
    join(inside, &["port", "tap2"]);
    let cards = ["10.1.0.2", "10.2.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), ECHO));
    let send = |card: usize| traffic::pump(&outside, cards[card], THROUGH_GUEST);
    let trip = |card: usize| traffic::round_trips(&outside, cards[card], ROUND_TRIPS);
    let (work, with) = (
        "20 MiB by TCP to a guest and back, mirrored link",
        "TAP in a bridge",
    );
    let throughput = compare(work, with, rounds(plan, "throughput", send));
    let work = "200 round trips by TCP to a guest, mirrored link";
    vec![
        throughput,
        compare(work, with, rounds(plan, "latency", trip)),
    ]
}

/// Without a guest: the kernel between two veths.
fn forwarding(plan: Plan) -> Row {
    let ways = [redirect, |middle: &Netns| join(middle, &["v1", "v2"])].map(connect);
    let send = |way: usize| {
        let [client, server, _] = &ways[way];
        let listener = server.within(|| TcpListener::bind("10.3.0.2:0").unwrap());
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                io::copy(&mut &stream, &mut &stream).unwrap()
            });
            traffic::pump(client, address, BETWEEN_NAMESPACES);
        });
    };
    let work = "128 MiB by TCP between namespaces and back, tc mirred";
    compare(work, "bridge", rounds(plan, "forwarding", send))
}

/// Returns two namespaces, and a third one that connects them.
fn connect(forward: fn(&Netns)) -> [Netns; 3] {
    let middle = Netns::new();
    let [client, server] = [1, 2].map(|number| {
        let end = Netns::new();
        let peer = format!("type veth peer eth0 netns {}", end.name());
        middle.ip(&format!("link add v{number} {peer}")).ok();
        middle.ip(&format!("link set v{number} up")).ok();
        end.ip("link set eth0 up").ok();
        end.ip(&format!("addr add 10.3.0.{number}/24 dev eth0"))
            .ok();
        end
    });
    forward(&middle);
    [client, server, middle]
}

/// Makes links the ports of a bridge.
fn join(netns: &Netns, links: &[&str]) {
    netns.ip("link add br0 type bridge").ok();
    netns.ip("link set br0 up").ok();
    for link in links {
        netns.ip(&format!("link set {link} master br0")).ok();
    }
}

/// Makes each of two links send what the other receives, as the wire of a mirrored link does.
fn redirect(netns: &Netns) {
    for (from, to) in [("v1", "v2"), ("v2", "v1")] {
        netns.exec(&format!("tc qdisc add dev {from} ingress")).ok();
        let filter = format!(
            "tc filter add dev {from} ingress protocol all pref 28770 u32 match u8 0 0 \
             action mirred egress redirect dev {to}"
        );
        netns.exec(&filter).ok();
    }
}
