//! Kata's routes of a point-to-point link, which replace the connected route.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{RouteRequest, RouteSpec, Scope};

use crate::harness::{ip, main_table, routes_text};
use crate::routes::{request, spec, with_addresses};

/// The routes in the order of Kata: default, subnet with source, gateway on the link.
fn point_to_point(scope: u64) -> [RouteSpec; 3] {
    let subnet = RouteRequest {
        source: "172.16.0.3".parse().ok(),
        ..request("172.16.0.0/16", "172.16.0.1", "eth1")
    };
    let gateway = RouteRequest {
        scope: Scope::try_from(scope).ok(),
        ..request("172.16.0.1/32", "", "eth1")
    };
    let default = request("0.0.0.0/0", "172.16.0.1", "eth1");
    [default, subnet, gateway].map(|request| RouteSpec::new(request).unwrap())
}

#[test]
fn replace_point_to_point_set_replaces_connected_route() {
    for (scope, shown) in [(253, "link"), (254, "host")] {
        let netcfg = with_addresses();
        let set = point_to_point(scope);
        netcfg.replace_routes(&set).unwrap();
        assert_eq!(
            routes_text("dev eth1"),
            format!(
                "default via 172.16.0.1 \n\
                 172.16.0.0/16 via 172.16.0.1 src 172.16.0.3 \n\
                 172.16.0.1 scope {shown} \n\
                 fd00::/64 proto kernel metric 256 pref medium\n"
            )
        );
        let before = main_table();
        netcfg.replace_routes(&set).unwrap();
        assert_eq!(main_table(), before);
    }
}

#[test]
fn replace_ipv6_point_to_point_set_replaces_connected_route() {
    let netcfg = with_addresses();
    let subnet = RouteRequest {
        source: "fd00::3".parse().ok(),
        ..request("fd00::/64", "fd00::1", "eth1")
    };
    let set = [
        spec("::/0", "fd00::1", "eth1"),
        RouteSpec::new(subnet).unwrap(),
        spec("fd00::1/128", "", "eth1"),
    ];
    netcfg.replace_routes(&set).unwrap();
    let table = routes_text("dev eth1");
    assert!(
        table.contains("fd00::/64 via fd00::1 src fd00::3 metric 1024"),
        "{table}"
    );
    assert!(!table.contains("fd00::/64 proto kernel"), "{table}");
    // The connected route and a route with a metric exist side by side.
    ip("-6 route replace fd00::/64 dev eth1 proto kernel metric 256");
    let other = RouteRequest {
        metric: Some(2000),
        ..set[1].fields().clone()
    };
    netcfg
        .replace_routes(&[RouteSpec::new(other).unwrap(), set[2].clone()])
        .unwrap();
    let table = routes_text("dev eth1");
    assert!(table.contains("fd00::/64 proto kernel"), "{table}");
}

#[test]
fn replace_that_fails_restores_connected_routes() {
    let netcfg = with_addresses();
    // The kernel allows several connected routes to a network.
    ip("addr add 172.16.0.4/16 dev eth2");
    ip("route add default via 172.16.0.9 dev eth1");
    let before = main_table();
    for bad in [
        spec("10.1.0.0/16", "192.0.2.1", "eth2"),
        spec("fd09::/64", "2001:db8::1", "eth2"),
    ] {
        let mut set = point_to_point(253).to_vec();
        set.push(bad);
        let failure = Failure::from(netcfg.replace_routes(&set).unwrap_err());
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Kernel, Some("[3]")),
            "{failure}"
        );
        assert_eq!(main_table(), before);
    }
    netcfg.replace_routes(&point_to_point(253)).unwrap();
    assert!(
        !main_table().contains("proto kernel scope link src 172.16"),
        "{}",
        main_table()
    );
    netcfg.replace_routes(&[]).unwrap();
}

#[test]
fn replace_keeps_connected_route_that_is_wanted() {
    let netcfg = with_addresses();
    let before = main_table();
    let mut set = point_to_point(253).to_vec();
    set.push(spec("172.16.0.0/16", "", "eth1"));
    let failure = Failure::from(netcfg.replace_routes(&set).unwrap_err());
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("[1]")),
        "{failure}"
    );
    assert_eq!(main_table(), before);
}
