//! Lists of routes as requests, the fields of a route, and routing tables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, LinkName, Onlink, Route, RouteMtu, RoutePattern, RouteProtocol, RouteRequest,
    RouteSpec, RouteTable,
};

use crate::harness::{ip, main_table};
use crate::routes::{add, pattern, request, sorted_routes, spec, with_addresses};

fn table(number: u64) -> RouteTable {
    RouteTable::try_from(number).unwrap()
}

/// Returns the request with every field of a listed route, as `route list` prints it.
fn as_request(route: &Route) -> RouteSpec {
    RouteSpec::new(route.as_request()).unwrap()
}

/// Runs `ip` with arguments, and output, that need not be UTF-8.
fn run_ip<const N: usize>(args: [&[u8]; N]) -> Vec<u8> {
    let output = Command::new("ip")
        .args(args.map(OsStr::from_bytes))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Adds routes as other programs make them.
fn add_foreign_routes() {
    ip("link add wg=0 type veth peer name wgp");
    run_ip([
        b"link", b"add", b"b\xffd", b"type", b"veth", b"peer", b"name", b"otherp",
    ]);
    for link in ["wg=0", "wgp", "otherp"] {
        ip(&format!("link set {link} up"));
    }
    for line in [
        // DHCP clients.
        "default via 172.16.0.1 dev eth1 proto dhcp src 172.16.0.3 metric 100",
        "172.16.0.1 dev eth1 proto dhcp scope link src 172.16.0.3 metric 100",
        "default via fe80::1 dev eth1 proto ra metric 1024 pref high",
        "fd01::/64 via fe80::1 dev eth1 proto static mtu 1400",
        "10.7.0.0/16 via 172.16.0.1 dev eth1 mtu 1300 advmss 1200",
        "10.8.0.0/16 via 192.0.2.1 dev eth2 onlink",
        "10.9.9.0/24 dev wg=0 scope host",
        "10.6.0.0/16 dev lo",
        "default dev wg=0 metric 9",
        "10.7.0.0/16 via 172.16.0.1 dev eth1 table 100",
        "10.7.0.0/16 via 172.16.0.1 dev eth1 table 70000 proto 186",
        "fd01::/64 via fe80::1 dev eth1 table 100",
    ] {
        ip(&format!("route add {line}"));
    }
    // Several routes with one destination and metric.
    ip("addr add 172.16.0.4/16 dev eth2");
    ip("route append 10.7.0.0/16 via 172.16.0.9 dev eth1");
}

#[test]
fn listed_routes_as_request_change_nothing() {
    let netcfg = with_addresses();
    add_foreign_routes();
    let before = sorted_routes();
    let listed = netcfg.routes().unwrap();
    let count = |number| listed.iter().filter(|r| r.table == table(number)).count();
    assert_eq!(
        (count(254), count(100), count(70000)),
        (14, 2, 1),
        "{listed:#?}"
    );
    let requests: Vec<RouteSpec> = listed.iter().map(as_request).collect();
    netcfg.replace_routes(&requests).unwrap();
    assert_eq!(sorted_routes(), before);
    add(&netcfg, &requests).unwrap();
    assert_eq!(sorted_routes(), before);
    // A list without the fields that the kernel chooses for a connected route.
    let short: Vec<RouteSpec> = listed
        .iter()
        .map(|route| match route {
            connected if connected.is_connected() => spec(
                &connected.dest.to_string(),
                "",
                &connected.device.to_string(),
            ),
            other => as_request(other),
        })
        .collect();
    netcfg.replace_routes(&short).unwrap();
    add(&netcfg, &short).unwrap();
    assert_eq!(sorted_routes(), before);
}

#[test]
fn added_route_has_every_field() {
    let netcfg = with_addresses();
    let full = |dest: &str, gateway: &str, device: &str, number| RouteRequest {
        metric: Some(7),
        onlink: Onlink::On,
        mtu: RouteMtu::try_from(1300).ok(),
        protocol: RouteProtocol::try_from(186).ok(),
        table: table(number),
        ..request(dest, gateway, device)
    };
    let v4 = full("10.7.0.0/16", "192.0.2.1", "eth1", 70000);
    let v6 = full("fd01::/64", "2001:db8::1", "eth2", 99);
    let specs = [v4, v6].map(|request| RouteSpec::new(request).unwrap());
    add(&netcfg, &specs).unwrap();
    let fields = "proto bgp metric 7 onlink mtu 1300";
    assert_eq!(
        ip("-4 route show table 70000"),
        format!("10.7.0.0/16 via 192.0.2.1 dev eth1 {fields} \n")
    );
    assert_eq!(
        ip("-6 route show table 99"),
        format!("fd01::/64 via 2001:db8::1 dev eth2 {fields} pref medium\n")
    );
    let before = sorted_routes();
    add(&netcfg, &specs).unwrap();
    assert_eq!(sorted_routes(), before);
}

#[test]
fn routes_of_links_have_any_name() {
    let netcfg = with_addresses();
    for name in [&b"b\xffd"[..], br"a\xff", b"wg=0", "\u{1b}[2J".as_bytes()] {
        run_ip([
            b"link", b"add", name, b"type", b"veth", b"peer", b"name", b"otherp",
        ]);
        run_ip([b"link", b"set", name, b"up"]);
        let device = LinkName::try_from(name).unwrap();
        let links = netcfg.list(AddressDetail::Omitted).unwrap();
        assert!(links.iter().any(|link| link.name == device), "{device}");
        let route = RouteRequest::open("10.7.0.0/16".parse().unwrap(), device.clone());
        add(&netcfg, &[RouteSpec::new(route).unwrap()]).unwrap();
        let shown = run_ip([b"route", b"show", b"10.7.0.0/16"]);
        assert!(
            shown.starts_with(&[b"10.7.0.0/16 dev ", name, b" "].concat()),
            "{device}"
        );
        let by_name = RoutePattern {
            device: Some(device),
            ..pattern("10.7.0.0/16")
        };
        netcfg.delete_routes(&[by_name]).unwrap();
        assert!(run_ip([b"route", b"show", b"10.7.0.0/16"]).is_empty());
        run_ip([b"link", b"del", name]);
    }
}

#[test]
fn replace_changes_other_tables_only_if_named() {
    let netcfg = with_addresses();
    ip("route add 10.7.0.0/16 dev eth1 table 100");
    ip("route add 10.8.0.0/16 dev eth1 table 100");
    ip("route add 10.7.0.0/16 dev eth1 table 101");
    ip("route add 10.8.0.0/16 dev eth1");
    netcfg
        .replace_routes(&[spec("10.9.1.0/24", "", "eth1")])
        .unwrap();
    let others = "10.7.0.0/16 dev eth1 scope link \n10.8.0.0/16 dev eth1 scope link \n";
    assert_eq!(ip("route show table 100"), others);
    assert!(!main_table().contains("10.8.0.0/16"));
    let in_100 = RouteRequest {
        table: table(100),
        ..request("10.7.0.0/16", "", "eth1")
    };
    netcfg
        .replace_routes(&[RouteSpec::new(in_100).unwrap()])
        .unwrap();
    let kept = "10.7.0.0/16 dev eth1 scope link \n";
    assert_eq!(ip("route show table 100"), kept);
    assert_eq!(ip("route show table 101"), kept);
    assert!(!main_table().contains("10.9.1.0/24"));
}

#[test]
fn delete_narrows_by_every_field() {
    let netcfg = with_addresses();
    ip("route add 10.7.0.0/16 dev eth1 table 100");
    ip("route add 10.7.0.0/16 via 172.16.0.1 dev eth1 metric 1 mtu 1300");
    ip("route add 10.7.0.0/16 via 172.16.0.1 dev eth1 metric 2 proto static");
    ip("route add 10.7.0.0/16 via 192.0.2.1 dev eth1 metric 3 onlink");
    let any = pattern("10.7.0.0/16");
    let patterns = [
        RoutePattern {
            mtu: RouteMtu::try_from(1300).ok(),
            ..any.clone()
        },
        RoutePattern {
            protocol: RouteProtocol::try_from(4).ok(),
            ..any.clone()
        },
        RoutePattern {
            onlink: Onlink::On,
            ..any.clone()
        },
    ];
    for (left, one) in (0..3).rev().zip(patterns) {
        netcfg.delete_routes(&[one]).unwrap();
        assert_eq!(main_table().matches("10.7.0.0/16").count(), left);
    }
    let delete = |pattern| netcfg.delete_routes(&[pattern]).map_err(Failure::from);
    let failure = delete(any.clone()).unwrap_err();
    assert_eq!(failure.kind(), Kind::NotFound);
    let in_100 = RoutePattern {
        table: table(100),
        ..any
    };
    delete(in_100.clone()).unwrap();
    let failure = delete(in_100).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "no route in the guest matches 10.7.0.0/16 table 100"
    );
}
