//! Changing addresses and MTU of an interface.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::{
    addresses_of, addresses_text, change, ip, ip_json, main_table, netcfg_with_veths, refusal,
    update,
};
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::Kind;
use patchbay_types::{AddressDetail, DadPolicy, LinkChange, Mtu};

/// Sets up addresses of both families, and routes of every kind that depend on them.
fn with_routes() -> Netcfg {
    let netcfg = netcfg_with_veths();
    ip("addr add 172.16.0.3/16 brd + dev eth1");
    ip("addr add fd00::3/64 dev eth1 nodad");
    ip("addr add 10.9.0.3/16 brd + dev eth2");
    ip("route add default via 172.16.0.1");
    ip("route add 10.1.0.0/16 via 172.16.0.1 mtu 1300");
    ip("route add 10.2.0.0/16 dev eth1");
    ip("route add 10.3.0.0/16 via 172.16.0.1 table 77");
    ip("route add 10.4.0.0/16 nexthop via 172.16.0.1 nexthop via 172.16.0.2");
    ip("route add fd01::/64 via fd00::1");
    ip("nexthop add id 7 via 172.16.0.1 dev eth1");
    ip("nexthop add id 8 via 172.16.0.2 dev eth1");
    ip("nexthop add id 9 group 7/8");
    ip("nexthop add id 10 via fd00::1 dev eth1");
    ip("route add 10.6.0.0/16 nhid 7");
    ip("route add 10.7.0.0/16 nhid 9 metric 70");
    ip("route add fd02::/64 nhid 10 src fd00::3");
    netcfg
}

#[test]
fn update_address_keeps_routes() {
    let netcfg = with_routes();
    let before = main_table();
    let index = ip_json("link show eth1")[0]["ifindex"].clone();
    update(
        &netcfg,
        &change("eth1", &["172.16.0.9/16", "fd00::3/64"], None),
    )
    .unwrap();
    assert_eq!(addresses_of("eth1"), ["172.16.0.9/16", "fd00::3/64"]);
    assert_eq!(
        main_table(),
        before.replace("src 172.16.0.3", "src 172.16.0.9")
    );
    assert!(ip("route show table 77").contains("10.3.0.0/16 via 172.16.0.1"));
    assert_eq!(ip_json("link show eth1")[0]["ifindex"], index);
    assert!(ip("addr show eth1").contains("172.16.0.9/16 brd 172.16.255.255"));
}

#[test]
fn update_keeps_secondaries_without_primary() {
    for promote in ["0", "1"] {
        let netcfg = with_routes();
        fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", promote).unwrap();
        fs::write("/proc/sys/net/ipv4/conf/eth1/promote_secondaries", promote).unwrap();
        ip("addr add 172.16.0.4/16 dev eth1");
        ip("addr add 172.16.0.5/16 dev eth1");
        let before = main_table();
        let wanted = ["172.16.0.5/16", "172.16.0.6/16", "fd00::3/64"];
        update(&netcfg, &change("eth1", &wanted, None)).unwrap();
        assert_eq!(addresses_of("eth1"), wanted, "promote {promote}");
        assert_eq!(
            main_table(),
            before.replace("src 172.16.0.3", "src 172.16.0.5")
        );
    }
}

#[test]
fn update_without_difference_changes_nothing() {
    let netcfg = with_routes();
    let show = || addresses_text() + &main_table();
    let before = show();
    update(
        &netcfg,
        &change("eth1", &["172.16.0.3/16", "fd00::3/64"], Some(1500)),
    )
    .unwrap();
    assert_eq!(show(), before);
    let nothing = LinkChange::new("eth1".parse().unwrap(), None, None, "addresses").unwrap();
    update(&netcfg, &nothing).unwrap();
    assert_eq!(show(), before);
}

#[test]
fn update_without_addresses_removes_all() {
    let netcfg = with_routes();
    update(&netcfg, &change("eth1", &[], None)).unwrap();
    assert_eq!(addresses_of("eth1"), Vec::<String>::new());
    // Routes that need no address of the link are restored.
    assert!(
        main_table().contains("10.2.0.0/16 dev eth1 scope link"),
        "{}",
        main_table()
    );
    let with_objects = |line: &&str| line.contains(" nhid ");
    let objects = main_table().lines().filter(with_objects).count();
    assert_eq!(objects, 3, "{}", main_table());
    let table = main_table().replace("nhid 7 via 172.16.0.1", "");
    let hop = |line: &str| line.starts_with("\tnexthop via 172.16");
    let mut others = table.lines().filter(|line| !hop(line));
    assert!(!others.any(|line| line.contains("172.16")), "{table}");
}

#[test]
fn update_changes_prefix_lengths() {
    let netcfg = with_routes();
    let wanted = ["172.16.0.3/24", "fd00::3/48"];
    update(&netcfg, &change("eth1", &wanted, None)).unwrap();
    assert_eq!(addresses_of("eth1"), wanted);
    let table = main_table();
    assert!(
        table.contains("172.16.0.0/24 dev eth1 proto kernel"),
        "{table}"
    );
    assert!(!table.contains("172.16.0.0/16"), "{table}");
    assert!(table.contains("fd01::/64 via fd00::1 dev eth1"), "{table}");
}

#[test]
fn update_mtu_below_ipv6_minimum_fails() {
    let netcfg = with_routes();
    let before = main_table();
    let mtu = |bytes| {
        let mtu = Mtu::try_from(bytes).ok();
        LinkChange::new("eth1".parse().unwrap(), None, mtu, "addresses").unwrap()
    };
    update(&netcfg, &mtu(1400)).unwrap();
    assert_eq!(ip_json("link show eth1")[0]["mtu"], 1400);
    assert_eq!(main_table(), before);
    let failure = update(&netcfg, &mtu(1279)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Invalid, Some("mtu"))
    );
    assert!(failure.to_string().contains("fd00::3/64"), "{failure}");
    assert_eq!(ip_json("link show eth1")[0]["mtu"], 1400);
}

#[test]
fn update_unknown_interface_fails() {
    let failure = update(&netcfg_with_veths(), &change("nope", &[], None)).unwrap_err();
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
fn update_refused_address_rolls_back() {
    let netcfg = with_routes();
    ip("route add 10.5.0.0/16 dev eth2 src 172.16.0.3");
    fs::write("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", "1").unwrap();
    let show = || addresses_text() + &ip("link show") + &main_table() + &ip("route show table 77");
    let before = show();
    let refused = refusal("addr add fd00::9/64 dev eth1 nodad", "Permission denied");
    let wanted = ["172.16.0.9/16", "fd00::9/64"];
    let failure = update(&netcfg, &change("eth1", &wanted, Some(1400))).unwrap_err();
    assert_eq!(failure.to_string(), "could not add the address fd00::9/64");
    assert_eq!(
        (failure.kind(), failure.errno()),
        (Kind::Denied, Some(libc::EACCES))
    );
    assert_eq!(failure.chain().collect::<Vec<_>>(), [refused]);
    assert_eq!(show(), before);
}

fn detect_duplicates(change: LinkChange) -> LinkChange {
    change.with_dad(DadPolicy::Detect)
}

#[test]
fn update_waits_for_duplicate_detection_on_request() {
    let netcfg = with_routes();
    let is_set = |local: &str, flag: &str| {
        let listed = ip_json("addr show eth1")[0]["addr_info"].take();
        let mut listed = listed.as_array().unwrap().iter();
        let address = listed.find(|a| a["local"] == local).unwrap();
        address.get(flag).is_some_and(|value| *value == true)
    };
    let wanted = change("eth1", &["fd00::3/64", "fd00::9/64"], None);
    update(&netcfg, &detect_duplicates(wanted)).unwrap();
    assert!(!is_set("fd00::9", "nodad") && !is_set("fd00::9", "tentative"));
    let wanted = change("eth1", &["fd00::3/64", "fd00::10/64"], None);
    update(&netcfg, &wanted).unwrap();
    assert!(is_set("fd00::10", "nodad") && !is_set("fd00::10", "tentative"));
}

#[test]
fn update_with_duplicate_address_rolls_back() {
    let netcfg = with_routes();
    ip("addr add fd00::9/64 dev eth1p nodad");
    let before = addresses_text() + &main_table();
    let wanted = change("eth1", &["172.16.0.9/16", "fd00::9/64"], None);
    let failure = update(&netcfg, &detect_duplicates(wanted)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("addresses"))
    );
    let message = "the address fd00::9/64 belongs to another host on the link";
    assert_eq!(failure.to_string(), message);
    assert_eq!(addresses_text() + &main_table(), before);
}

/// The first request is from a host command that was killed.
#[test]
fn update_overtaken_while_it_waits_does_not_revert_the_later_one() {
    // With a duplicate the first wait fails, and without one its result is not as requested.
    for duplicate in [true, false] {
        let netcfg = with_routes();
        if duplicate {
            ip("addr add fd00::9/64 dev eth1p nodad");
        }
        let first = change("eth1", &["172.16.0.9/16", "fd00::9/64"], Some(1400));
        let later = change("eth1", &["172.16.0.10/16", "fd00::10/64"], None);
        let (first, later) = thread::scope(|scope| {
            let first = scope.spawn(|| update(&netcfg, &detect_duplicates(first)));
            while !ip("addr show eth1").contains("fd00::9/64") {
                thread::yield_now();
            }
            let later = update(&netcfg, &later);
            (first.join().unwrap(), later)
        });
        later.unwrap();
        let failure = first.unwrap_err();
        assert_eq!(failure.kind(), Kind::NotYet, "{failure}");
        assert!(failure.to_string().contains("a later request"), "{failure}");
        assert_eq!(addresses_of("eth1"), ["172.16.0.10/16", "fd00::10/64"]);
        assert_eq!(ip_json("link show eth1")[0]["mtu"], 1500);
        let table = main_table();
        assert!(table.contains("default via 172.16.0.1"), "{table}");
    }
}

#[test]
fn update_without_carrier_times_out_detection() {
    let netcfg = with_routes();
    // Its peer stays down.
    ip("link add veth type veth peer name end");
    ip("link set veth up");
    let wanted = change("veth", &["10.8.0.3/16", "fd00::9/64"], None);
    let failure = update(&netcfg, &detect_duplicates(wanted)).unwrap_err();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert!(failure.to_string().contains("fd00::9/64"), "{failure}");
    assert_eq!(addresses_of("veth"), Vec::<String>::new());
    let wanted = change("veth", &["10.8.0.3/16", "fd00::9/64"], None);
    update(&netcfg, &wanted).unwrap();
    assert_eq!(addresses_of("veth"), ["10.8.0.3/16", "fd00::9/64"]);
}

#[test]
fn update_keeps_link_local_addresses() {
    let netcfg = with_routes();
    let link_local = || ip("-o -6 addr show dev eth1 scope link").contains("fe80:");
    while !link_local() {
        thread::sleep(Duration::from_millis(10));
    }
    update(&netcfg, &change("eth1", &["172.16.0.9/16"], None)).unwrap();
    assert_eq!(addresses_of("eth1"), ["172.16.0.9/16"]);
    assert!(link_local());
}

#[test]
fn addresses_are_reported_on_request_only() {
    let netcfg = with_routes();
    let mtu = LinkChange::new("eth1".parse().unwrap(), None, Mtu::try_from(1400).ok(), "").unwrap();
    let address = change("eth1", &["172.16.0.9/16"], None);
    for change in [mtu, address] {
        let listed = netcfg.update(&change, AddressDetail::Listed).unwrap();
        assert!(!listed.addresses.is_empty());
        let omitted = netcfg.update(&change, AddressDetail::Omitted).unwrap();
        assert!(omitted.addresses.is_empty());
    }
    for (detail, has_some) in [
        (AddressDetail::Listed, true),
        (AddressDetail::Omitted, false),
    ] {
        let interfaces = netcfg.list(detail).unwrap();
        let found = interfaces
            .iter()
            .find(|found| found.name.to_string() == "eth1");
        assert_eq!(!found.unwrap().addresses.is_empty(), has_some);
    }
}
