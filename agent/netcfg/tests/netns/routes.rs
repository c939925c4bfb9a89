//! Routes on a real kernel, judged by iproute2.

#[allow(dead_code)]
use crate::bench::{Dice, batch, ip, json, services, table};
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Destination, RoutePattern, RouteRequest, RouteSpec, Scope};

fn parts(dest: &str, gateway: &str, device: &str) -> RouteRequest {
    RouteRequest {
        dest: dest.parse().unwrap(),
        gateway: gateway.parse().ok(),
        source: None,
        device: device.parse().unwrap(),
        scope: None,
        metric: None,
    }
}

fn spec(dest: &str, gateway: &str, device: &str) -> RouteSpec {
    RouteSpec::new(parts(dest, gateway, device)).unwrap()
}

fn pattern(dest: &str) -> RoutePattern {
    RoutePattern {
        dest: match dest {
            "default" => Destination::Default,
            net => Destination::Net(net.parse().unwrap()),
        },
        gateway: None,
        source: None,
        device: None,
        scope: None,
        metric: None,
    }
}

/// Two networks of both families, and a router in the first.
fn routed() -> Netcfg {
    let services = services();
    ip("addr add 172.16.0.3/16 dev eth1");
    ip("addr add fd00::3/64 dev eth1 nodad");
    ip("addr add 10.9.0.3/16 dev eth2");
    services
}

fn add(services: &Netcfg, specs: &[RouteSpec]) -> Result<(), Failure> {
    services
        .add_routes(specs)
        .map_err(|error| Failure::from(&error))
}

#[test]
fn routes_of_both_families_are_added_in_any_order() {
    let services = routed();
    add(
        &services,
        &[
            spec("0.0.0.0/0", "172.16.0.1", "eth1"),
            spec("::/0", "fd00::1", "eth1"),
            spec("10.7.0.1/16", "192.0.2.1", "eth2"),
            spec("192.0.2.1/32", "", "eth2"),
            spec("10.8.0.0/16", "", "lo"),
        ],
    )
    .unwrap();
    let table = table();
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
fn source_scope_and_metric_are_honoured() {
    let services = routed();
    let route = RouteRequest {
        source: "172.16.0.3".parse().ok(),
        scope: Scope::try_from(200).ok(),
        metric: Some(77),
        ..parts("10.7.0.0/16", "", "eth2")
    };
    add(&services, &[RouteSpec::new(route).unwrap()]).unwrap();
    let line = "10.7.0.0/16 dev eth2 scope site src 172.16.0.3 metric 77 \n";
    assert!(table().contains(line), "{}", table());
}

#[test]
fn the_same_again_changes_nothing() {
    let services = routed();
    let specs = [
        spec("0.0.0.0/0", "172.16.0.1", "eth1"),
        spec("fd01::/64", "fd00::1", "eth1"),
        // The kernel made it with the address.
        spec("172.16.0.0/16", "", "eth1"),
    ];
    add(&services, &specs).unwrap();
    let before = table();
    add(&services, &specs).unwrap();
    add(&services, &[specs[0].clone(), specs[0].clone()]).unwrap();
    assert_eq!(table(), before);
}

#[test]
fn another_way_to_the_same_destination_is_refused_and_nothing_stays() {
    let services = routed();
    add(&services, &[spec("10.7.0.0/16", "172.16.0.1", "eth1")]).unwrap();
    let before = table();
    for rival in [
        spec("10.7.0.0/16", "172.16.0.2", "eth1"),
        spec("10.7.0.0/16", "", "eth1"),
        spec("10.7.0.0/16", "10.9.0.1", "eth2"),
    ] {
        let failure = add(&services, &[spec("10.6.0.0/16", "", "eth1"), rival]).unwrap_err();
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
        assert_eq!(table(), before);
    }
    let twice = [
        spec("10.5.0.0/16", "", "eth1"),
        spec("10.5.0.0/16", "", "eth2"),
    ];
    let failure = add(&services, &twice).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("[1].dest"))
    );
    assert_eq!(table(), before);
}

#[test]
fn a_refusal_of_the_kernel_undoes_the_rest_and_keeps_its_words() {
    let services = routed();
    let before = table();
    let mut specs: Vec<RouteSpec> = (0..200)
        .map(|n| spec(&format!("10.100.{n}.0/24"), "172.16.0.1", "eth1"))
        .collect();
    specs[150] = spec("10.100.150.0/24", "192.0.2.1", "eth1");
    let failure = add(&services, &specs).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Kernel, Some("[150]"))
    );
    let told = failure
        .chain()
        .any(|cause| cause.contains("Nexthop has invalid gateway"));
    assert!(told, "{failure}: {:?}", failure.chain().collect::<Vec<_>>());
    assert_eq!(table(), before);
    let failure = add(&services, &[spec("10.0.0.0/8", "", "nosuch")]).unwrap_err();
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
fn a_deletion_takes_every_route_that_agrees() {
    let services = routed();
    for line in [
        "10.7.0.0/16 via 172.16.0.1 metric 1",
        "10.7.0.0/16 via 10.9.0.1 metric 2",
        "10.7.0.0/16 dev eth1 metric 3",
        "10.7.0.0/24 dev eth1",
    ] {
        ip(&format!("route add {line}"));
    }
    let before = table();
    let by_device = RoutePattern {
        device: "eth2".parse().ok(),
        ..pattern("10.7.0.0/16")
    };
    services.delete_routes(&[by_device]).unwrap();
    let gone = "10.7.0.0/16 via 10.9.0.1 dev eth2 metric 2 \n";
    assert_eq!(table(), before.replace(gone, ""));
    services.delete_routes(&[pattern("10.7.99.99/16")]).unwrap();
    assert!(!table().contains("10.7.0.0/16") && table().contains("10.7.0.0/24"));
}

#[test]
fn connected_and_default_routes_are_deleted() {
    let services = routed();
    ip("route add default via 172.16.0.1");
    ip("route add default via fd00::1");
    services
        .delete_routes(&[
            pattern("default"),
            pattern("172.16.0.0/16"),
            pattern("fd00::/64"),
        ])
        .unwrap();
    let table = table();
    assert!(
        !table.contains("default") && !table.contains("172.16"),
        "{table}"
    );
    assert!(!table.contains("fd00::"), "{table}");
}

#[test]
fn a_pattern_without_a_route_deletes_nothing() {
    let services = routed();
    ip("route add 10.7.0.0/16 via 172.16.0.1");
    let before = table();
    let patterns = [pattern("10.7.0.0/16"), pattern("10.8.0.0/16")];
    let failure = services
        .delete_routes(&patterns)
        .map_err(|e| Failure::from(&e))
        .unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::NotFound, Some("[1].dest"))
    );
    assert_eq!(table(), before);
}

/// What only other words could say.
fn oddities() {
    ip("route add blackhole 10.200.0.0/16");
    ip("route add unreachable fd66::/64");
    ip("route add 10.201.0.0/16 nexthop via 172.16.0.1 nexthop via 10.9.0.1");
    ip("route add 10.202.0.0/16 via inet6 fd00::1 dev eth1");
    ip("route add 10.203.0.0/16 dev eth1 tos 0x20");
    ip("route add 10.204.0.0/16 dev eth1 table 99");
}

#[test]
fn what_cannot_be_said_is_neither_listed_nor_touched() {
    let services = routed();
    oddities();
    let before = table();
    let listed = services.routes().unwrap();
    let dests: Vec<String> = listed.iter().map(|r| r.dest.to_string()).collect();
    assert_eq!(dests, ["10.9.0.0/16", "172.16.0.0/16", "fd00::/64"]);
    services.replace_routes(&[]).unwrap();
    assert_eq!(table(), before);
}

#[test]
fn a_replacement_touches_only_what_differs() {
    let services = routed();
    ip("route add default via 172.16.0.1");
    ip("route add 10.7.0.0/16 dev eth1 mtu 1300");
    ip("route add 10.8.0.0/16 via 172.16.0.9");
    ip("route add 10.6.0.0/16 dev lo");
    services
        .replace_routes(&[
            spec("0.0.0.0/0", "172.16.0.1", "eth1"),
            spec("10.7.0.0/16", "", "eth1"),
            spec("172.16.0.0/16", "", "eth1"),
            spec("10.8.0.0/16", "10.9.0.1", "eth2"),
            spec("fd01::/64", "fd00::1", "eth1"),
        ])
        .unwrap();
    let table = table();
    for line in [
        "default via 172.16.0.1 dev eth1 \n",
        // Its MTU shows that it is the one from before.
        "10.7.0.0/16 dev eth1 scope link mtu 1300 \n",
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
fn a_replacement_that_fails_leaves_the_table_as_it_was() {
    let services = routed();
    ip("route add default via 172.16.0.1");
    ip("route add 10.7.0.0/16 dev eth1 mtu 1300");
    ip("route add fd01::/64 via fd00::1 mtu 1400");
    oddities();
    let before = table();
    let wanted = [
        spec("10.5.0.0/16", "", "eth2"),
        spec("0.0.0.0/0", "192.0.2.1", "eth1"),
    ];
    let failure = Failure::from(&services.replace_routes(&wanted).unwrap_err());
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Kernel, Some("[1]"))
    );
    assert_eq!(table(), before);
}

/// A random route in our words and in iproute2's.
fn a_route(dice: &mut Dice) -> (RouteSpec, String) {
    let v4 = dice.below(2) == 0;
    let device = *dice.one(&["eth1", "eth2"]);
    let (dest, gateway) = if v4 {
        let (a, b, bits) = (dice.below(200), dice.below(256), 9 + dice.below(24));
        let router = if device == "eth1" {
            "172.16.0"
        } else {
            "10.9.0"
        };
        (
            format!("20.{a}.{b}.{}/{bits}", dice.below(256)),
            format!("{router}.{}", 10 + dice.below(200)),
        )
    } else {
        let bits = 20 + dice.below(109);
        let router = if device == "eth1" { "fd00::" } else { "fe80::" };
        (
            format!(
                "2001:{:x}:{:x}::{:x}/{bits}",
                dice.below(65536),
                dice.below(65536),
                dice.below(65536)
            ),
            format!("{router}{:x}", 16 + dice.below(60000)),
        )
    };
    let gateway = if dice.below(3) == 0 {
        String::new()
    } else {
        gateway
    };
    let metric = (dice.below(3) == 0).then(|| 1 + u32::try_from(dice.below(9)).unwrap());
    let route = RouteRequest {
        metric,
        ..parts(&dest, &gateway, device)
    };
    let net: ipnet::IpNet = dest.parse().unwrap();
    let via = if gateway.is_empty() {
        String::new()
    } else {
        format!("via {gateway} ")
    };
    let metric = metric.map_or(String::new(), |metric| format!("metric {metric}"));
    let words = format!("route add {} {via}dev {device} {metric}", net.trunc());
    (RouteSpec::new(route).unwrap(), words)
}

/// The kernel's own numbers of links differ between namespaces; names don't.
fn state() -> Vec<String> {
    let mut lines: Vec<String> = ["-4 route show table all", "-6 route show table main"]
        .iter()
        .flat_map(|words| json(words).as_array().unwrap().clone())
        .map(|route| route.to_string())
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_thousand_random_routes_come_out_as_ip_batch_makes_them() {
    let mut dice = Dice::new();
    let mut seen = std::collections::HashSet::new();
    let (mut specs, mut lines) = (Vec::new(), String::new());
    while specs.len() < 1000 {
        let (spec, words) = a_route(&mut dice);
        if seen.insert(spec.resolve().identity()) {
            specs.push(spec);
            lines += &words;
            lines.push('\n');
        }
    }
    let services = routed();
    add(&services, &specs).unwrap();
    let ours = state();
    services.replace_routes(&[]).unwrap();
    let emptied = state();
    batch(["-batch", "-"].into_iter(), &lines);
    assert_eq!(state(), ours);
    let dests = specs.iter().map(|spec| RoutePattern {
        dest: Destination::Net(spec.fields().dest),
        ..pattern("default")
    });
    services.delete_routes(&dests.collect::<Vec<_>>()).unwrap();
    assert_eq!(state(), emptied);
}
