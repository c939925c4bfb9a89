//! Addresses that other programs set on the same link.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{
    address, addresses_of, change, ip, ip_json, main_table, netcfg_with_veths, routes_text, update,
};
use patchbay_netcfg::ops::Netcfg;
use patchbay_netcfg::rtnl::address as rtnl;
use patchbay_netlink::{Batch, RecvBuffer, Rtnetlink, Socket, Transport as _};
use patchbay_types::failure::Kind;
use patchbay_types::{AddressDetail, LinkChange, Mtu, Owner};

/// Sets the addresses of `eth1` by an update, which tags them.
fn with_own(addresses: &[&str]) -> Netcfg {
    let netcfg = netcfg_with_veths();
    update(&netcfg, &change("eth1", addresses, None)).unwrap();
    netcfg
}

/// Adds addresses of the kinds that DHCP, SLAAC, VRRP and network managers set.
fn add_foreign() {
    for line in [
        "172.16.0.50/16 valid_lft 900 preferred_lft 600",
        "172.16.0.51/32",
        "172.16.0.52/16 label eth1:vip",
        "10.55.0.1 peer 10.55.0.2/32",
        "10.56.0.1/24 noprefixroute",
        "10.57.0.1/24 metric 50",
        "169.254.7.7/16 scope link",
        "fd00::50/64 valid_lft 900 preferred_lft 600 nodad",
        "fd00::51/128 nodad",
        "fd01::52/64 noprefixroute mngtmpaddr nodad",
        "fe80::77/64 nodad",
    ] {
        ip(&format!("addr add {line} dev eth1"));
    }
}

/// Returns the addresses of `eth1` with all that iproute2 shows, except for the remaining seconds and
/// the addresses that the kernel makes.
fn shown() -> Vec<String> {
    let listed = ip("-o addr show dev eth1");
    let seconds = |word: &str| word.strip_suffix("sec").map(|_| "Nsec".to_owned());
    let words = |line: &str| {
        let words = line.split_whitespace().skip(2);
        let words = words.map(|word| seconds(word).unwrap_or_else(|| word.to_owned()));
        words.collect::<Vec<_>>().join(" ")
    };
    let made_by_kernel = |line: &String| {
        line.contains("temporary") || line.contains(" fe80::") && !line.contains("fe80::77")
    };
    let lines = listed.lines().map(words);
    lines.filter(|line| !made_by_kernel(line)).collect()
}

/// Lines of [`shown`] without those with one of these addresses.
fn without(lines: &[String], addresses: &[&str]) -> Vec<String> {
    let has = |line: &String| addresses.iter().any(|ip| line.contains(&format!(" {ip}/")));
    lines.iter().filter(|line| !has(line)).cloned().collect()
}

fn promotes() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/conf/eth1/promote_secondaries").unwrap()
}

#[test]
fn update_keeps_addresses_of_other_programs() {
    for promote in ["0", "1"] {
        let netcfg = with_own(&["172.16.0.3/16", "fd00::3/64"]);
        fs::write("/proc/sys/net/ipv4/conf/eth1/promote_secondaries", promote).unwrap();
        add_foreign();
        ip("route add 10.7.0.0/16 via 172.16.0.1");
        ip("route add 10.8.0.0/16 dev eth2 src 172.16.0.50");
        let (before, routes) = (without(&shown(), &["172.16.0.3", "fd00::3"]), main_table());
        let wanted = ["172.16.0.9/16", "fd00::9/64"];
        update(&netcfg, &change("eth1", &wanted, None)).unwrap();
        let after = shown();
        let others = without(&after, &["172.16.0.9", "fd00::9"]);
        // The first secondary takes the place of the primary.
        let first = |line: &String| line.replace(" secondary", "");
        let (mut before, mut others): (Vec<_>, Vec<_>) = (
            before.iter().map(first).collect(),
            others.iter().map(first).collect(),
        );
        before.sort();
        others.sort();
        assert_eq!(others, before, "promote {promote}");
        assert_eq!(after.len(), before.len() + 2, "{after:#?}");
        assert_eq!(promotes().trim(), promote);
        assert_eq!(
            main_table(),
            routes.replace(
                "172.16.0.0/16 dev eth1 proto kernel scope link src 172.16.0.3",
                "172.16.0.0/16 dev eth1 proto kernel scope link src 172.16.0.50"
            )
        );

        update(&netcfg, &change("eth1", &[], None)).unwrap();
        assert_eq!(shown().len(), before.len());
    }
}

#[test]
fn update_of_untagged_interface_replaces_plain_addresses_only() {
    let netcfg = netcfg_with_veths();
    ip("addr add 172.16.0.3/16 dev eth1");
    ip("addr add 172.16.0.4/16 dev eth1");
    ip("addr add fd00::3/64 dev eth1 nodad");
    ip("addr add 10.55.0.1 peer 10.55.0.2/32 dev eth1");
    ip("addr add fd05::1 peer fd05::2/128 dev eth1 nodad");
    ip("addr add 172.16.0.52/16 dev eth1 label eth1:vip");
    ip("addr add 172.16.0.50/16 dev eth1 valid_lft 900 preferred_lft 600");
    update(&netcfg, &change("eth1", &["172.16.0.4/16"], None)).unwrap();
    let left = ["172.16.0.4/16", "172.16.0.50/16", "172.16.0.52/16"];
    assert_eq!(addresses_of("eth1"), left);
    // The address that was kept is patchbay's now.
    update(&netcfg, &change("eth1", &["172.16.0.9/16"], None)).unwrap();
    let left = ["172.16.0.50/16", "172.16.0.52/16", "172.16.0.9/16"];
    assert_eq!(addresses_of("eth1"), left);
}

#[test]
fn update_requested_foreign_address_is_left_as_it_is() {
    let netcfg = with_own(&["172.16.0.3/16"]);
    ip("addr add 172.16.0.50/16 dev eth1 valid_lft 900 preferred_lft 600");
    ip("addr add fd00::50/64 dev eth1 valid_lft 900 preferred_lft 600 nodad");
    let before = shown();
    let wanted = ["172.16.0.3/16", "172.16.0.50/16", "fd00::50/64"];
    update(&netcfg, &change("eth1", &wanted, None)).unwrap();
    assert_eq!(shown(), before);
}

#[test]
fn update_foreign_address_with_other_prefix_is_refused() {
    let netcfg = with_own(&["172.16.0.3/16"]);
    ip("addr add fd00::50/64 dev eth1 valid_lft 900 preferred_lft 600 nodad");
    let before = shown();
    let wanted = ["172.16.0.9/16", "fd00::50/128"];
    let failure = update(&netcfg, &change("eth1", &wanted, None)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("addresses"))
    );
    assert_eq!(
        failure.to_string(),
        "could not add the address fd00::50/128: another program in the guest has set fd00::50/64"
    );
    assert_eq!(shown(), before);
}

#[test]
fn update_mtu_that_ends_ipv6_of_other_programs_is_refused() {
    let netcfg = with_own(&["172.16.0.3/16"]);
    let mtu = |bytes| {
        let mtu = Mtu::try_from(bytes).ok();
        LinkChange::new("eth1".parse().unwrap(), None, mtu, "addresses").unwrap()
    };
    ip("addr add fd00::50/64 dev eth1 valid_lft 900 preferred_lft 600 nodad");
    let failure = update(&netcfg, &mtu(1000)).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Invalid, Some("mtu"))
    );
    assert!(failure.to_string().contains("fd00::50/64"), "{failure}");
    ip("addr del fd00::50/64 dev eth1");
    update(&netcfg, &mtu(1000)).unwrap();
    assert_eq!(ip_json("link show eth1")[0]["mtu"], 1000);
}

#[test]
fn link_local_address_is_set_once_listed_and_removed() {
    let netcfg = netcfg_with_veths();
    let wanted = change("eth1", &["fe80::77/64"], None);
    let listed = || {
        let interfaces = netcfg.list(AddressDetail::Listed).unwrap();
        let eth1 = interfaces
            .into_iter()
            .find(|found| found.name.to_string() == "eth1");
        let addresses = eth1.unwrap().addresses.into_iter();
        addresses
            .map(|found| (found.address.to_string(), found.owner))
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        update(&netcfg, &wanted).unwrap();
        assert_eq!(shown().len(), 1, "{:?}", shown());
        assert_eq!(listed(), [("fe80::77/64".to_owned(), Owner::Patchbay)]);
    }
    update(&netcfg, &change("eth1", &[], None)).unwrap();
    assert_eq!(shown(), Vec::<String>::new());
    assert_eq!(listed(), []);
}

#[test]
fn update_loopback_keeps_its_addresses_and_mtu() {
    let netcfg = netcfg_with_veths();
    let show = || ip("-o addr show dev lo") + &ip("link show dev lo") + &routes_text("table all");
    let before = show();
    update(
        &netcfg,
        &change("lo", &["10.255.0.1/32", "fd00::1/128"], None),
    )
    .unwrap();
    let with_kernels = ["10.255.0.1/32", "127.0.0.1/8", "::1/128", "fd00::1/128"];
    assert_eq!(addresses_of("lo"), with_kernels);
    update(&netcfg, &change("lo", &["127.0.0.1/8", "::1/128"], None)).unwrap();
    assert_eq!(show(), before);
    update(&netcfg, &change("lo", &["127.0.0.53/8"], None)).unwrap();
    let listed = ip("-o addr show dev lo");
    assert!(
        listed.contains("127.0.0.53/8 brd 127.255.255.255 scope host"),
        "{listed}"
    );
    update(&netcfg, &change("lo", &[], None)).unwrap();
    assert_eq!(show(), before);
    for (addresses, mtu, field) in [
        (&["::1/64"][..], None, "addresses"),
        (&[], Some(1500), "mtu"),
        (&[], Some(1000), "mtu"),
    ] {
        let failure = update(&netcfg, &change("lo", addresses, mtu)).unwrap_err();
        assert_eq!(failure.field(), Some(field), "{failure}");
        assert_eq!(show(), before);
    }
}

/// Removes `victim` from `eth1` as fast as it can while `work` runs.
fn while_removing<T>(victim: &str, work: impl FnOnce() -> T) -> T {
    let index = u32::try_from(ip_json("link show eth1")[0]["ifindex"].as_u64().unwrap()).unwrap();
    let (victim, done) = (address(victim), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = Socket::<Rtnetlink>::open(RecvBuffer::Small).unwrap();
            while !done.load(Ordering::Relaxed) {
                let listed = rtnl::list(&mut socket, Some(index)).unwrap();
                let mut batch = Batch::default();
                for found in listed.iter().filter(|found| found.address == victim) {
                    rtnl::remove(&mut batch, found);
                }
                socket.send(&batch).unwrap();
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// The failure comes when the old addresses have been removed. The other program loses the race now
/// and then.
#[test]
fn update_disturbed_by_other_program_restores_order_and_settings() {
    let failure = (0..100).find_map(|_| {
        let netcfg = with_own(&["172.16.0.3/16", "172.16.0.4/16", "fd00::3/64"]);
        add_foreign();
        ip("route add default via 172.16.0.1");
        ip("route add 10.8.0.0/16 dev eth2 src 172.16.0.3");
        ip("route add 10.9.0.0/16 dev eth2 src 172.16.0.50");
        ip("nexthop add id 7 via 172.16.0.1 dev eth1");
        ip("nexthop add id 8 group 7");
        ip("route add 10.10.0.0/16 nhid 7 src 172.16.0.3");
        ip("route add 10.11.0.0/16 nhid 8 src 172.16.0.3");
        ip("-6 route add fd09::/64 dev eth2 src fd00::3");
        let by_family = || {
            let (v4, mut v6): (Vec<_>, Vec<_>) = shown()
                .into_iter()
                .partition(|line| line.starts_with("inet "));
            // The order of IPv6 addresses isn't restored.
            v6.sort();
            (v4, v6)
        };
        let show = || (by_family(), main_table(), promotes());
        let before = show();
        let wanted = change("eth1", &["172.16.0.9/16", "fd00::9/64"], None);
        let failure = while_removing("172.16.0.9/16", || update(&netcfg, &wanted)).err()?;
        assert_eq!(show(), before);
        Some(failure)
    });
    let failure = failure.unwrap();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert_eq!(
        failure.to_string(),
        "another program in the guest has changed the interface meanwhile: \
         it lacks the address 172.16.0.9/16"
    );
}
