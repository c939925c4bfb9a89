//! Adding, deleting and replacing routes.

use fastrand::Rng;
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Destination, RoutePattern, RouteRequest, RouteSpec, Scope};

use crate::harness::{
    ip, ip_batch, ip_json, main_table, netcfg_with_veths, pick, refusal, seeded_rng,
};

pub(crate) fn request(dest: &str, gateway: &str, device: &str) -> RouteRequest {
    RouteRequest {
        gateway: gateway.parse().ok(),
        ..RouteRequest::open(dest.parse().unwrap(), device.parse().unwrap())
    }
}

pub(crate) fn spec(dest: &str, gateway: &str, device: &str) -> RouteSpec {
    RouteSpec::new(request(dest, gateway, device)).unwrap()
}

pub(crate) fn pattern(dest: &str) -> RoutePattern {
    let dest = match dest {
        "default" => Destination::Default,
        net => Destination::Net(net.parse().unwrap()),
    };
    RoutePattern::open(dest, None)
}

/// Sets up an IPv4 network on each link, and an IPv6 network on the first.
pub(crate) fn with_addresses() -> Netcfg {
    let netcfg = netcfg_with_veths();
    ip("addr add 172.16.0.3/16 dev eth1");
    ip("addr add fd00::3/64 dev eth1 nodad");
    ip("addr add 10.9.0.3/16 dev eth2");
    netcfg
}

pub(crate) fn add(netcfg: &Netcfg, specs: &[RouteSpec]) -> Result<(), Failure> {
    netcfg.add_routes(specs).map_err(Failure::from)
}

#[test]
fn add_routes_orders_them_by_dependency() {
    let netcfg = with_addresses();
    add(
        &netcfg,
        &[
            spec("0.0.0.0/0", "172.16.0.1", "eth1"),
            spec("::/0", "fd00::1", "eth1"),
            spec("10.7.0.1/16", "192.0.2.1", "eth2"),
            spec("192.0.2.1/32", "", "eth2"),
            spec("10.8.0.0/16", "", "lo"),
        ],
    )
    .unwrap();
    let table = main_table();
    for line in [
        "default via 172.16.0.1 dev eth1 \n",
        "10.7.0.0/16 via 192.0.2.1 dev eth2 \n",
        "192.0.2.1 dev eth2 scope link \n",
        "10.8.0.0/16 dev lo scope link \n",
        "default via fd00::1 dev eth1 metric 1024 pref medium\n",
    ] {
        assert!(table.contains(line), "{line}{table}");
    }
}

#[test]
fn add_route_with_source_scope_and_metric() {
    let netcfg = with_addresses();
    let route = RouteRequest {
        source: "172.16.0.3".parse().ok(),
        scope: Scope::try_from(200).ok(),
        metric: Some(77),
        ..request("10.7.0.0/16", "", "eth2")
    };
    add(&netcfg, &[RouteSpec::new(route).unwrap()]).unwrap();
    let line = "10.7.0.0/16 dev eth2 scope site src 172.16.0.3 metric 77 \n";
    assert!(main_table().contains(line), "{}", main_table());
}

#[test]
fn add_existing_routes_changes_nothing() {
    let netcfg = with_addresses();
    let specs = [
        spec("0.0.0.0/0", "172.16.0.1", "eth1"),
        spec("fd01::/64", "fd00::1", "eth1"),
        // Made by the kernel with the address.
        spec("172.16.0.0/16", "", "eth1"),
    ];
    add(&netcfg, &specs).unwrap();
    let before = main_table();
    add(&netcfg, &specs).unwrap();
    add(&netcfg, &[specs[0].clone(), specs[0].clone()]).unwrap();
    assert_eq!(main_table(), before);
}

#[test]
fn add_conflicting_route_fails_without_change() {
    let netcfg = with_addresses();
    add(&netcfg, &[spec("10.7.0.0/16", "172.16.0.1", "eth1")]).unwrap();
    let before = main_table();
    for conflicting in [
        spec("10.7.0.0/16", "172.16.0.2", "eth1"),
        spec("10.7.0.0/16", "", "eth1"),
        spec("10.7.0.0/16", "10.9.0.1", "eth2"),
    ] {
        let failure = add(&netcfg, &[spec("10.6.0.0/16", "", "eth1"), conflicting]).unwrap_err();
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Exists, Some("[1].dest"))
        );
        assert!(
            failure
                .to_string()
                .contains("10.7.0.0/16 via 172.16.0.1 dev eth1"),
            "{failure}"
        );
        assert_eq!(main_table(), before);
    }
    let twice = [
        spec("10.5.0.0/16", "", "eth1"),
        spec("10.5.0.0/16", "", "eth2"),
    ];
    let failure = add(&netcfg, &twice).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("[1].dest"))
    );
    assert_eq!(main_table(), before);
}

#[test]
fn add_refused_route_rolls_back() {
    let netcfg = with_addresses();
    let before = main_table();
    let mut specs: Vec<RouteSpec> = (0..200)
        .map(|n| spec(&format!("10.100.{n}.0/24"), "172.16.0.1", "eth1"))
        .collect();
    specs[150] = spec("10.100.150.0/24", "192.0.2.1", "eth1");
    let refused = refusal(
        "route add 10.100.150.0/24 via 192.0.2.1 dev eth1",
        "Network is unreachable",
    );
    assert!(refused.contains("Nexthop has invalid gateway"), "{refused}");
    let failure = add(&netcfg, &specs).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Kernel, Some("[150]"))
    );
    assert_eq!(failure.errno(), Some(libc::ENETUNREACH));
    assert_eq!(failure.chain().collect::<Vec<_>>(), [refused]);
    assert_eq!(main_table(), before);
    let failure = add(&netcfg, &[spec("10.0.0.0/8", "", "nosuch")]).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::NotFound, Some("[0].device"))
    );
    assert_eq!(
        failure.to_string(),
        "Could not find link from device nosuch"
    );
}

#[test]
fn delete_removes_every_match() {
    let netcfg = with_addresses();
    for line in [
        "10.7.0.0/16 via 172.16.0.1 metric 1",
        "10.7.0.0/16 via 10.9.0.1 metric 2",
        "10.7.0.0/16 dev eth1 metric 3",
        "10.7.0.0/24 dev eth1",
    ] {
        ip(&format!("route add {line}"));
    }
    let before = main_table();
    let by_device = RoutePattern {
        device: "eth2".parse().ok(),
        ..pattern("10.7.0.0/16")
    };
    netcfg.delete_routes(&[by_device]).unwrap();
    let gone = "10.7.0.0/16 via 10.9.0.1 dev eth2 metric 2 \n";
    assert_eq!(main_table(), before.replace(gone, ""));
    netcfg.delete_routes(&[pattern("10.7.99.99/16")]).unwrap();
    assert!(!main_table().contains("10.7.0.0/16") && main_table().contains("10.7.0.0/24"));
}

#[test]
fn delete_connected_and_default_routes() {
    let netcfg = with_addresses();
    ip("route add default via 172.16.0.1");
    ip("route add default via fd00::1");
    netcfg
        .delete_routes(&[
            pattern("default"),
            pattern("172.16.0.0/16"),
            pattern("fd00::/64"),
        ])
        .unwrap();
    let table = main_table();
    assert!(
        !table.contains("default") && !table.contains("172.16"),
        "{table}"
    );
    assert!(!table.contains("fd00::"), "{table}");
}

#[test]
fn delete_without_match_deletes_nothing() {
    let netcfg = with_addresses();
    ip("route add 10.7.0.0/16 via 172.16.0.1");
    let before = main_table();
    let patterns = [pattern("10.7.0.0/16"), pattern("10.8.0.0/16")];
    let failure = netcfg
        .delete_routes(&patterns)
        .map_err(Failure::from)
        .unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::NotFound, Some("[1].dest"))
    );
    assert_eq!(main_table(), before);
}

/// Adds routes that patchbay's route type can't express.
fn add_inexpressible_routes() {
    ip("route add blackhole 10.200.0.0/16");
    ip("route add unreachable fd66::/64");
    ip("route add 10.201.0.0/16 nexthop via 172.16.0.1 nexthop via 10.9.0.1");
    ip("route add 10.202.0.0/16 via inet6 fd00::1 dev eth1");
    ip("route add 10.203.0.0/16 dev eth1 tos 0x20");
}

#[test]
fn inexpressible_routes_are_not_listed_or_changed() {
    let netcfg = with_addresses();
    add_inexpressible_routes();
    let before = main_table();
    let listed = netcfg.routes().unwrap();
    let dests: Vec<String> = listed.iter().map(|r| r.dest.to_string()).collect();
    assert_eq!(dests, ["10.9.0.0/16", "172.16.0.0/16", "fd00::/64"]);
    netcfg.replace_routes(&[]).unwrap();
    assert_eq!(main_table(), before);
}

#[test]
fn replace_changes_only_differences() {
    let netcfg = with_addresses();
    ip("route add default via 172.16.0.1");
    ip("route add 10.7.0.0/16 dev eth1 proto static advmss 1200");
    ip("route add 10.8.0.0/16 via 172.16.0.9");
    ip("route add 10.6.0.0/16 dev lo");
    netcfg
        .replace_routes(&[
            spec("0.0.0.0/0", "172.16.0.1", "eth1"),
            spec("10.7.0.0/16", "", "eth1"),
            spec("172.16.0.0/16", "", "eth1"),
            spec("10.8.0.0/16", "10.9.0.1", "eth2"),
            spec("fd01::/64", "fd00::1", "eth1"),
        ])
        .unwrap();
    let table = main_table();
    for line in [
        "default via 172.16.0.1 dev eth1 \n",
        // Its MSS shows that it is the old one.
        "10.7.0.0/16 dev eth1 proto static scope link advmss 1200 \n",
        "10.8.0.0/16 via 10.9.0.1 dev eth2 \n",
        "10.6.0.0/16 dev lo scope link \n",
        "172.16.0.0/16 dev eth1 proto kernel scope link src 172.16.0.3 \n",
        "fd01::/64 via fd00::1 dev eth1 metric 1024 pref medium\n",
    ] {
        assert!(table.contains(line), "{line}{table}");
    }
    assert!(!table.contains("172.16.0.9"), "{table}");
}

#[test]
fn replace_that_fails_rolls_back() {
    let netcfg = with_addresses();
    ip("route add default via 172.16.0.1");
    ip("route add 10.7.0.0/16 dev eth1 mtu 1300");
    ip("route add fd01::/64 via fd00::1 mtu 1400");
    add_inexpressible_routes();
    let before = main_table();
    let wanted = [
        spec("10.5.0.0/16", "", "eth2"),
        spec("0.0.0.0/0", "192.0.2.1", "eth1"),
    ];
    let failure = Failure::from(netcfg.replace_routes(&wanted).unwrap_err());
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Kernel, Some("[1]"))
    );
    assert_eq!(main_table(), before);
}

/// Returns a random route, and the arguments of `ip` that add it.
fn random_route(rng: &mut Rng) -> (RouteSpec, String) {
    let v4 = rng.u64(..2) == 0;
    let device = *pick(rng, &["eth1", "eth2"]);
    let (dest, gateway) = if v4 {
        let (a, b, bits) = (rng.u64(..200), rng.u64(..256), 9 + rng.u64(..24));
        let router = if device == "eth1" {
            "172.16.0"
        } else {
            "10.9.0"
        };
        (
            format!("20.{a}.{b}.{}/{bits}", rng.u64(..256)),
            format!("{router}.{}", 10 + rng.u64(..200)),
        )
    } else {
        let bits = 20 + rng.u64(..109);
        let router = if device == "eth1" { "fd00::" } else { "fe80::" };
        (
            format!(
                "2001:{:x}:{:x}::{:x}/{bits}",
                rng.u64(..65536),
                rng.u64(..65536),
                rng.u64(..65536)
            ),
            format!("{router}{:x}", 16 + rng.u64(..60000)),
        )
    };
    let gateway = if rng.u64(..3) == 0 {
        String::new()
    } else {
        gateway
    };
    let metric = (rng.u64(..3) == 0).then(|| 1 + u32::try_from(rng.u64(..9)).unwrap());
    let route = RouteRequest {
        metric,
        ..request(&dest, &gateway, device)
    };
    let net: ipnet::IpNet = dest.parse().unwrap();
    let via = if gateway.is_empty() {
        String::new()
    } else {
        format!("via {gateway} ")
    };
    let metric = metric.map_or(String::new(), |metric| format!("metric {metric}"));
    let args = format!("route add {} {via}dev {device} {metric}", net.trunc());
    (RouteSpec::new(route).unwrap(), args)
}

/// Returns all routes in a fixed order.
pub(crate) fn sorted_routes() -> Vec<String> {
    let mut lines: Vec<String> = ["-4 route show table all", "-6 route show table main"]
        .iter()
        .flat_map(|args| ip_json(args).as_array().unwrap().clone())
        .map(|route| route.to_string())
        .collect();
    lines.sort();
    lines
}

#[test]
fn random_routes_are_added_like_ip_batch() {
    let mut rng = seeded_rng();
    let mut seen = std::collections::HashSet::new();
    let (mut specs, mut lines) = (Vec::new(), String::new());
    while specs.len() < 1000 {
        let (spec, args) = random_route(&mut rng);
        if seen.insert(spec.resolve().identity()) {
            specs.push(spec);
            lines += &args;
            lines.push('\n');
        }
    }
    let netcfg = with_addresses();
    add(&netcfg, &specs).unwrap();
    let added = sorted_routes();
    netcfg.replace_routes(&[]).unwrap();
    let empty = sorted_routes();
    ip_batch(&lines);
    assert_eq!(sorted_routes(), added);
    let dests = specs.iter().map(|spec| RoutePattern {
        dest: Destination::Net(spec.fields().dest),
        ..pattern("default")
    });
    netcfg.delete_routes(&dests.collect::<Vec<_>>()).unwrap();
    assert_eq!(sorted_routes(), empty);
}
