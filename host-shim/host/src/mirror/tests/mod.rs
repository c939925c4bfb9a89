//! Mirrors in network namespaces, judged by iproute2.

mod wires;

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::*;

/// Runs a test in a new network namespace of its thread, with the links made by `script`.
fn in_netns(script: &str, test: impl FnOnce(&Netns) + Send) {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            sh("ip link set lo up");
            sh(script);
            test(&Netns::current().unwrap());
        };
        scope.spawn(run);
    });
}

/// Runs commands in the namespace of the calling thread and returns their output.
fn sh(script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn json(script: &str) -> Value {
    serde_json::from_str(&sh(script)).unwrap()
}

fn index(link: &str) -> u32 {
    let text = sh(&format!(
        "cat /sys/class/net/{link}/ifindex 2>/dev/null || ip -j link show {link}"
    ));
    let shown: Value = serde_json::from_str(&text).unwrap();
    shown[0]["ifindex"].as_u64().unwrap().try_into().unwrap()
}

const NET1: &str = "ip link add net1 address 02:00:00:00:00:11 mtu 1400 type veth peer peer1; \
                    ip link set net1 up; ip link set peer1 up;";

fn request(link: &str) -> MirrorRequest {
    MirrorRequest::new(link.parse().unwrap(), "eth1".parse().unwrap())
}

/// Reads the mirror of net1 in a namespace made by `script`: the specification and the routes.
fn mirror(script: &str) -> (LinkSpec, Vec<String>) {
    let mut read = None;
    in_netns(&format!("{NET1}{script}"), |namespace| {
        read = Some(super::read(namespace, &request("net1"), &[]).unwrap());
    });
    let card = read.unwrap();
    let Backend::Link(link) = card.backend else {
        panic!("not a link");
    };
    (card.link, link.routes().iter().map(shown).collect())
}

/// Formats a route with the fields that its own text lacks.
fn shown(spec: &RouteSpec) -> String {
    let RouteRequest {
        source,
        scope,
        metric,
        mtu,
        ..
    } = spec.fields();
    let fields = [
        ("src", source.map(|source| source.to_string())),
        ("scope", scope.map(|scope| scope.get().to_string())),
        ("metric", metric.map(|metric| metric.to_string())),
        ("mtu", mtu.map(|mtu| mtu.get().to_string())),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, text)| Some(format!(" {name} {}", text?)));
    format!("{}{}", spec.resolve(), given.collect::<String>())
}

fn refuse(script: &str, link: &str) -> Failure {
    let mut failure = None;
    in_netns(script, |namespace| {
        failure = Some(super::read(namespace, &request(link), &[]).unwrap_err());
    });
    failure.unwrap()
}

#[test]
fn mirror_of_bridged_link_has_its_settings() {
    let (spec, routes) = mirror(
        "ip addr add 10.1.0.2/24 dev net1; ip addr add fd01::2/64 dev net1 nodad; \
         ip addr add 10.9.0.2/24 dev net1 valid_lft 100 preferred_lft 100; \
         ip route add 10.2.0.0/16 via 10.1.0.1 mtu 1300; ip route add default via 10.1.0.1; \
         ip route add fd02::/64 via fd01::1 metric 77; \
         ip neigh add 10.1.0.9 lladdr 02:00:00:00:00:99 dev net1 nud permanent; \
         ip neigh add 10.1.0.8 lladdr 02:00:00:00:00:98 dev net1 nud reachable",
    );
    let parts = spec.parts();
    assert_eq!(
        (parts.mtu.get(), parts.mac.to_string().as_str()),
        (1400, "02:00:00:00:00:11")
    );
    let addresses: Vec<_> = parts.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.1.0.2/24", "fd01::2/64"]);
    assert_eq!(spec.addresses_without_prefix_route(), []);
    assert_eq!(spec.neighbors().len(), 1);
    assert_eq!(spec.neighbors()[0].ip.to_string(), "10.1.0.9");
    assert_eq!(
        routes,
        [
            "0.0.0.0/0 via 10.1.0.1 dev eth1 scope 0",
            "10.2.0.0/16 via 10.1.0.1 dev eth1 scope 0 mtu 1300",
            "fd02::/64 via fd01::1 dev eth1 metric 77",
        ]
    );
}

/// As the plugin `ptp` leaves it: no route to the address's network, and one to the gateway first.
#[test]
fn mirror_of_ptp_link_has_no_prefix_route() {
    let (spec, routes) = mirror(
        "ip addr add 10.65.0.2/24 dev net1; ip route del 10.65.0.0/24 dev net1; \
         ip route add 10.65.0.1 dev net1 scope link; \
         ip route add 10.65.0.0/24 via 10.65.0.1 src 10.65.0.2; \
         ip addr add fd65::2/64 dev net1 nodad noprefixroute",
    );
    let absent = spec.addresses_without_prefix_route().iter();
    let absent: Vec<_> = absent.map(ToString::to_string).collect();
    assert_eq!(absent, ["10.65.0.2/24", "fd65::2/64"]);
    assert_eq!(
        routes,
        [
            "10.65.0.1/32 dev eth1 scope 253",
            "10.65.0.0/24 via 10.65.0.1 dev eth1 src 10.65.0.2 scope 0",
        ]
    );
}

#[test]
fn mirror_of_address_with_peer_has_its_route() {
    let (spec, routes) = mirror("ip addr add 10.7.0.2 peer 10.7.0.1/32 dev net1");
    assert_eq!(spec.parts().addresses[0].to_string(), "10.7.0.2/32");
    assert_eq!(routes, ["10.7.0.1/32 dev eth1 src 10.7.0.2 scope 253"]);
}

/// A second IPv6 default route becomes a hop of the first one.
#[test]
fn mirror_has_its_hop_of_multipath_route() {
    let (_, routes) = mirror(
        "ip link add net0 type veth peer peer0; ip link set net0 up; ip link set peer0 up; \
         ip addr add fd00::2/64 dev net0 nodad; ip addr add fd01::2/64 dev net1 nodad; \
         ip -6 route add default via fd00::1; ip -6 route append default via fd01::1",
    );
    assert_eq!(routes, ["::/0 via fd01::1 dev eth1 metric 1024"]);
}

/// The agent refuses a second route to the same destination.
#[test]
fn mirror_has_one_of_several_routes_to_a_destination() {
    let (_, routes) = mirror(
        "ip addr add 10.1.0.2/24 dev net1; ip addr add fd01::2/64 dev net1 nodad; \
         ip route add 10.2.0.0/16 nexthop via 10.1.0.1 nexthop via 10.1.0.9; \
         ip route add 10.2.0.0/16 tos 0x10 via 10.1.0.8; \
         ip route add 10.3.0.0/16 tos 0x10 via 10.1.0.8; \
         ip route add fd02::/64 nexthop via fd01::1 nexthop via fd01::9",
    );
    assert_eq!(
        routes,
        [
            "10.2.0.0/16 via 10.1.0.1 dev eth1 scope 0",
            "fd02::/64 via fd01::1 dev eth1 metric 1024",
        ]
    );
}

#[test]
fn mirror_lacks_what_has_a_lifetime_and_what_needs_it() {
    let (spec, routes) = mirror(
        "ip addr add 10.1.0.2/24 dev net1; \
         ip addr add 10.9.0.2/24 dev net1 valid_lft 100 preferred_lft 100; \
         ip route add 10.2.0.0/16 via 10.1.0.1; ip route add 10.3.0.0/16 via 10.9.0.1; \
         ip route add 10.4.0.0/16 via 10.1.0.1 src 10.9.0.2; \
         ip route add 10.5.0.0/16 via 10.9.0.1 dev net1 onlink; \
         ip route add 10.6.0.1 dev net1; ip route add 10.7.0.0/16 via 10.6.0.1; \
         ip route add 10.8.0.0/16 nexthop via 10.9.0.1 nexthop via 10.1.0.9; \
         ip route add 10.10.0.1 dev net1 src 10.9.0.2; ip route add 10.11.0.0/16 via 10.10.0.1; \
         ip addr add fd01::2/64 dev net1 nodad; \
         ip route add fd02::/64 via fd01::1 expires 100; ip route add fd03::/64 via fe80::1 dev net1",
    );
    assert_eq!(spec.parts().addresses.len(), 2);
    assert_eq!(
        routes,
        [
            "10.6.0.1/32 dev eth1 scope 253",
            "10.2.0.0/16 via 10.1.0.1 dev eth1 scope 0",
            "10.5.0.0/16 via 10.9.0.1 dev eth1 scope 0",
            "10.7.0.0/16 via 10.6.0.1 dev eth1 scope 0",
            "10.8.0.0/16 via 10.1.0.9 dev eth1 scope 0",
            "fd03::/64 via fe80::1 dev eth1 metric 1024",
        ]
    );
}

#[test]
fn mirror_of_many_routes_is_read_whole() {
    let (_, routes) = mirror(
        "ip addr add 10.1.0.2/24 dev net1; \
         for i in $(seq 0 999); do echo route add 10.$((100 + i / 256)).$((i % 256)).0/24 via 10.1.0.1; done \
         | ip -batch -",
    );
    assert_eq!(routes.len(), 1000);
}

/// As the plugin `sbr` makes them.
#[test]
fn routing_rules_of_link_are_found() {
    let script = "ip addr add 10.1.0.2/24 dev net1; ip addr add fd01::2/64 dev net1 nodad; \
                  ip rule add from 10.1.0.2 table 100; ip rule add from 10.1.0.3 table 100; \
                  ip rule add oif net1 table 101; ip -6 rule add from fd01::/64 table 102; \
                  ip -6 rule add to fd01::/64 table 102";
    in_netns(&format!("{NET1}{script}"), |namespace| {
        let rtnl = Rtnetlink::open(namespace).unwrap();
        let addresses = addresses::addresses(&rtnl, index("net1")).unwrap();
        let addresses = addresses.mirrored;
        let selectors = |link: &str, addresses: &[_]| {
            let mut found = rules::selectors(&rtnl, &link.parse().unwrap(), addresses).unwrap();
            found.sort();
            found
        };
        assert_eq!(
            selectors("net1", &addresses),
            ["from 10.1.0.2/32", "from fd01::/64", "oif net1"]
        );
        assert_eq!(selectors("net2", &[]), [""; 0]);
    });
}

#[test]
fn links_that_are_no_virtual_ethernet_are_refused() {
    let bridge = refuse("ip link add br0 type bridge; ip link set br0 up", "br0");
    assert_eq!(bridge.kind(), Kind::Unsupported);
    assert_eq!(
        bridge.to_string(),
        "link 'br0' can't be mirrored: its kind is bridge"
    );
    let tap = refuse("ip tuntap add tap0 mode tap; ip link set tap0 up", "tap0");
    assert_eq!(
        tap.to_string(),
        "link 'tap0' can't be mirrored: its kind is tun"
    );
    let loopback = refuse("", "lo");
    assert_eq!(
        loopback.to_string(),
        "link 'lo' can't be mirrored: it is not an Ethernet link"
    );
    let missing = refuse("", "net1");
    assert_eq!(
        (missing.kind(), missing.field()),
        (Kind::NotFound, Some("link"))
    );
    let down = refuse("ip link add net1 type veth peer peer1", "net1");
    assert_eq!(
        (down.kind(), down.to_string().as_str()),
        (Kind::NotYet, "link 'net1' can't be mirrored: it is down")
    );
}

fn guest_route(text: &str) -> Route {
    let (dest, device) = text.split_once(' ').unwrap();
    let request = RouteRequest::open(dest.parse().unwrap(), device.parse().unwrap());
    RouteSpec::new(request).unwrap().resolve()
}

fn compatible_routes(present: &[Route], policy: DefaultRoute) -> Vec<String> {
    let dests = ["0.0.0.0/0", "10.0.0.0/8", "::/0"];
    let routes = dests.map(|dest| {
        let request = RouteRequest::open(dest.parse().unwrap(), "eth1".parse().unwrap());
        RouteSpec::new(request).unwrap()
    });
    let specs = compatible(&routes, present, policy).unwrap();
    specs.iter().map(shown).collect()
}

#[test]
fn routes_of_another_card_are_kept() {
    let present = ["0.0.0.0/0 eth0", "10.0.0.0/8 eth0", "::/0 eth0"].map(guest_route);
    assert_eq!(compatible_routes(&present, DefaultRoute::Keep), [""; 0]);
    assert_eq!(
        compatible_routes(&present, DefaultRoute::Take),
        [
            "0.0.0.0/1 dev eth1",
            "128.0.0.0/1 dev eth1",
            "::/0 dev eth1 metric 512",
        ]
    );
    // Routes of the same card are there already.
    let own = ["10.0.0.0/8 eth1"].map(guest_route);
    assert_eq!(compatible_routes(&own, DefaultRoute::Keep).len(), 2);
}

#[test]
fn mirror_record_stays_readable() {
    let recorded = r#"{"link":"net1","index":7,"qdisc":"own","routes":"mirror","default_route":"keep","attachment":{"network":"blue","container":"0123","ifname":"net1"}}"#;
    let record: MirrorRecord = serde_json::from_str(recorded).unwrap();
    assert_eq!(
        (record.wire.index, record.wire.qdisc),
        (7, wire::Qdisc::Own)
    );
    assert_eq!(serde_json::to_string(&record).unwrap(), recorded);
}

/// TAP of the wire's tests.
const TAP: &str = "ip tuntap add pbt9 mode tap;";
