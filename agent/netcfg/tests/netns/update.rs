//! Changes of interfaces on a real kernel, judged by iproute2.

#[allow(dead_code)]
use std::fs;
use std::time::{Duration, Instant};

use crate::bench::{address, ip, json, services, table};
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{DadPolicy, LinkChange, Mtu};

fn change(name: &str, addresses: &[&str], mtu: Option<u64>) -> LinkChange {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    let mtu = mtu.map(|mtu| Mtu::try_from(mtu).unwrap());
    LinkChange::new(name.parse().unwrap(), Some(addresses), mtu, "addresses").unwrap()
}

fn update(services: &Netcfg, change: &LinkChange) -> Result<(), Failure> {
    let done = services.update(change).map(drop);
    done.map_err(|error| Failure::from(&error))
}

/// The addresses of a link but the link-local ones.
fn addresses(name: &str) -> Vec<String> {
    let listed = json(&format!("addr show {name}"))[0]["addr_info"].take();
    let listed = listed.as_array().unwrap().clone();
    let global = listed
        .iter()
        .filter(|a| a["local"].is_string() && a["scope"] != "link");
    let mut texts: Vec<String> = global
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect();
    texts.sort();
    texts
}

/// Addresses of both families, and routes of every sort that lean on them.
fn settled() -> Netcfg {
    let services = services();
    ip("addr add 172.16.0.3/16 brd + dev eth1");
    ip("addr add fd00::3/64 dev eth1 nodad");
    ip("addr add 10.9.0.3/16 brd + dev eth2");
    ip("route add default via 172.16.0.1");
    ip("route add 10.1.0.0/16 via 172.16.0.1 mtu 1300");
    ip("route add 10.2.0.0/16 dev eth1");
    ip("route add 10.3.0.0/16 via 172.16.0.1 table 77");
    ip("route add 10.4.0.0/16 nexthop via 172.16.0.1 nexthop via 172.16.0.2");
    ip("route add fd01::/64 via fd00::1");
    services
}

#[test]
fn a_replaced_address_leaves_every_route_where_it_was() {
    let services = settled();
    let before = table();
    let index = json("link show eth1")[0]["ifindex"].clone();
    update(
        &services,
        &change("eth1", &["172.16.0.9/16", "fd00::3/64"], None),
    )
    .unwrap();
    assert_eq!(addresses("eth1"), ["172.16.0.9/16", "fd00::3/64"]);
    assert_eq!(table(), before.replace("src 172.16.0.3", "src 172.16.0.9"));
    assert!(ip("route show table 77").contains("10.3.0.0/16 via 172.16.0.1"));
    assert_eq!(json("link show eth1")[0]["ifindex"], index);
    assert!(ip("addr show eth1").contains("172.16.0.9/16 brd 172.16.255.255"));
}

#[test]
fn a_secondary_stays_when_its_primary_goes() {
    for promote in ["0", "1"] {
        let services = settled();
        fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", promote).unwrap();
        fs::write("/proc/sys/net/ipv4/conf/eth1/promote_secondaries", promote).unwrap();
        ip("addr add 172.16.0.4/16 dev eth1");
        ip("addr add 172.16.0.5/16 dev eth1");
        let before = table();
        let wanted = ["172.16.0.5/16", "172.16.0.6/16", "fd00::3/64"];
        update(&services, &change("eth1", &wanted, None)).unwrap();
        assert_eq!(addresses("eth1"), wanted, "promote {promote}");
        assert_eq!(table(), before.replace("src 172.16.0.3", "src 172.16.0.5"));
    }
}

#[test]
fn the_same_again_touches_nothing() {
    let services = settled();
    let show = || ip("addr show") + &table();
    let before = show();
    update(
        &services,
        &change("eth1", &["172.16.0.3/16", "fd00::3/64"], Some(1500)),
    )
    .unwrap();
    assert_eq!(show(), before);
    let nothing = LinkChange::new("eth1".parse().unwrap(), None, None, "addresses").unwrap();
    update(&services, &nothing).unwrap();
    assert_eq!(show(), before);
}

#[test]
fn no_addresses_means_none() {
    let services = settled();
    update(&services, &change("eth1", &[], None)).unwrap();
    assert_eq!(addresses("eth1"), Vec::<String>::new());
    // What needs no address of the link is put back.
    assert!(
        table().contains("10.2.0.0/16 dev eth1 scope link"),
        "{}",
        table()
    );
    assert!(!table().contains("172.16"), "{}", table());
}

#[test]
fn prefixes_change_in_place() {
    let services = settled();
    let wanted = ["172.16.0.3/24", "fd00::3/48"];
    update(&services, &change("eth1", &wanted, None)).unwrap();
    assert_eq!(addresses("eth1"), wanted);
    let table = table();
    assert!(
        table.contains("172.16.0.0/24 dev eth1 proto kernel"),
        "{table}"
    );
    assert!(!table.contains("172.16.0.0/16"), "{table}");
    assert!(table.contains("fd01::/64 via fd00::1 dev eth1"), "{table}");
}

#[test]
fn the_mtu_changes_alone_and_keeps_to_ipv6() {
    let services = settled();
    let before = table();
    let mtu = |bytes| {
        let mtu = Mtu::try_from(bytes).ok();
        LinkChange::new("eth1".parse().unwrap(), None, mtu, "addresses").unwrap()
    };
    update(&services, &mtu(1400)).unwrap();
    assert_eq!(json("link show eth1")[0]["mtu"], 1400);
    assert_eq!(table(), before);
    let failure = update(&services, &mtu(1279)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Invalid, Some("mtu"))
    );
    assert!(failure.to_string().contains("fd00::3/64"), "{failure}");
    assert_eq!(json("link show eth1")[0]["mtu"], 1400);
}

#[test]
fn an_unknown_name_is_not_found() {
    let failure = update(&services(), &change("nope", &[], None)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::NotFound, Some("name"))
    );
    assert!(
        failure
            .to_string()
            .contains("can not find the network interface"),
        "{failure}"
    );
}

#[test]
fn a_refusal_of_the_kernel_undoes_everything() {
    let services = settled();
    ip("route add 10.5.0.0/16 dev eth2 src 172.16.0.3");
    fs::write("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", "1").unwrap();
    let show = || ip("addr show") + &ip("link show") + &table() + &ip("route show table 77");
    let before = show();
    let wanted = ["172.16.0.9/16", "fd00::9/64"];
    let failure = update(&services, &change("eth1", &wanted, Some(1400))).unwrap_err();
    assert_eq!(failure.to_string(), "could not add the address fd00::9/64");
    assert!(
        failure
            .chain()
            .any(|cause| cause.contains("IPv6 is disabled")),
        "{failure:?}"
    );
    assert_eq!(show(), before);
}

fn detecting(change: LinkChange) -> LinkChange {
    change.with_dad(DadPolicy::Detect)
}

#[test]
fn an_address_is_waited_for_when_that_is_asked() {
    let services = settled();
    let tentative = || ip("addr show dev eth1 scope global").contains("tentative");
    let timed = |change| {
        let begun = Instant::now();
        update(&services, &change).unwrap();
        assert!(!tentative());
        begun.elapsed()
    };
    // The kernel asks once and waits for a second (`dad_transmits`, `retrans_time_ms`).
    let waited = timed(detecting(change(
        "eth1",
        &["fd00::3/64", "fd00::9/64"],
        None,
    )));
    assert!(waited > Duration::from_millis(900), "{waited:?}");
    let at_once = timed(change("eth1", &["fd00::3/64", "fd00::10/64"], None));
    assert!(at_once < Duration::from_millis(900), "{at_once:?}");
}

#[test]
fn a_duplicate_is_reported_and_undone() {
    let services = settled();
    ip("addr add fd00::9/64 dev eth1p nodad");
    let before = ip("addr show eth1") + &table();
    let wanted = change("eth1", &["172.16.0.9/16", "fd00::9/64"], None);
    let failure = update(&services, &detecting(wanted)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("addresses"))
    );
    let sentence = "the address fd00::9/64 belongs to another host on the link";
    assert_eq!(failure.to_string(), sentence);
    assert_eq!(ip("addr show eth1") + &table(), before);
}

#[test]
fn a_link_without_a_carrier_settles_nothing() {
    let services = settled();
    // The other end stays down.
    ip("link add veth type veth peer name end");
    ip("link set veth up");
    let wanted = change("veth", &["10.8.0.3/16", "fd00::9/64"], None);
    let failure = update(&services, &detecting(wanted)).unwrap_err();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert!(failure.to_string().contains("fd00::9/64"), "{failure}");
    assert_eq!(addresses("veth"), Vec::<String>::new());
}
