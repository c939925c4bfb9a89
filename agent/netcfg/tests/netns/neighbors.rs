//! Static neighbors.

use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, LinkChange, Mtu, Neighbor, NeighborPattern};

use crate::harness::{address, addresses_of, change, ip, ip_json, update};
use crate::routes::with_addresses;

fn neighbor(ip: &str, last: u8, device: &str) -> Neighbor {
    Neighbor {
        ip: ip.parse::<std::net::IpAddr>().unwrap().try_into().unwrap(),
        lladdr: [2, 0, 0, 0, 0, last].into(),
        device: device.parse().unwrap(),
    }
}

fn pattern(neighbor: &Neighbor) -> NeighborPattern {
    NeighborPattern {
        ip: neighbor.ip,
        lladdr: None,
        device: None,
    }
}

/// Returns the entries that iproute2 shows, without those that the kernel makes for groups.
pub(crate) fn shown() -> Vec<String> {
    let listed = ip_json("neigh show");
    let entries = listed.as_array().unwrap().iter();
    let mut entries: Vec<String> = entries
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            let state = entry["state"][0].as_str().unwrap();
            format!("{} {} {} {state}", text("dst"), text("lladdr"), text("dev"))
        })
        .collect();
    entries.sort();
    entries
}

fn add(netcfg: &Netcfg, neighbors: &[Neighbor]) -> Result<(), Failure> {
    netcfg.add_neighbors(neighbors).map_err(Failure::from)
}

fn delete(netcfg: &Netcfg, patterns: &[NeighborPattern]) -> Result<(), Failure> {
    netcfg.delete_neighbors(patterns).map_err(Failure::from)
}

#[test]
fn neighbors_are_added_listed_and_deleted() {
    let netcfg = with_addresses();
    // One that the kernel has learned gives way, and isn't listed.
    ip("neigh add 172.16.0.9 lladdr 02:00:00:00:00:77 dev eth1 nud stale");
    let entries = [
        neighbor("172.16.0.9", 1, "eth1"),
        neighbor("fd00::9", 2, "eth1"),
        neighbor("fe80::9", 3, "eth2"),
        neighbor("172.16.0.9", 4, "eth2"),
    ];
    assert_eq!(netcfg.neighbors().unwrap(), []);
    for _ in 0..2 {
        add(&netcfg, &entries).unwrap();
        assert_eq!(
            shown(),
            [
                "172.16.0.9 02:00:00:00:00:01 eth1 PERMANENT",
                "172.16.0.9 02:00:00:00:00:04 eth2 PERMANENT",
                "fd00::9 02:00:00:00:00:02 eth1 PERMANENT",
                "fe80::9 02:00:00:00:00:03 eth2 PERMANENT",
            ]
        );
    }
    let mut listed = netcfg.neighbors().unwrap();
    listed.sort_by_key(|entry| entry.lladdr.octets());
    assert_eq!(listed, entries);
    let on_eth2 = NeighborPattern {
        device: "eth2".parse().ok(),
        ..pattern(&entries[0])
    };
    delete(&netcfg, &[on_eth2]).unwrap();
    assert_eq!(shown()[0], "172.16.0.9 02:00:00:00:00:01 eth1 PERMANENT");
    assert_eq!(shown().len(), 3);
    let patterns: Vec<_> = entries[..3].iter().map(pattern).collect();
    delete(&netcfg, &patterns).unwrap();
    assert_eq!(shown(), [""; 0]);
}

#[test]
fn delete_without_match_deletes_nothing() {
    let netcfg = with_addresses();
    let entry = neighbor("172.16.0.9", 1, "eth1");
    add(&netcfg, std::slice::from_ref(&entry)).unwrap();
    ip("neigh add 172.16.0.8 lladdr 02:00:00:00:00:08 dev eth1 nud reachable");
    let learned = pattern(&neighbor("172.16.0.8", 8, "eth1"));
    let other = NeighborPattern {
        lladdr: Some([2, 0, 0, 0, 0, 9].into()),
        ..pattern(&entry)
    };
    for missing in [learned, other] {
        let failure = delete(&netcfg, &[pattern(&entry), missing]).unwrap_err();
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::NotFound, Some("[1].ip"))
        );
        assert_eq!(netcfg.neighbors().unwrap(), vec![entry.clone()]);
    }
}

#[test]
fn add_that_fails_rolls_back() {
    let netcfg = with_addresses();
    let entries = [
        neighbor("172.16.0.9", 1, "eth1"),
        neighbor("fd00::9", 2, "eth2"),
    ];
    add(&netcfg, &entries[..1]).unwrap();
    let before = shown();
    let conflicting = [entries[1].clone(), neighbor("172.16.0.9", 9, "eth1")];
    let failure = add(&netcfg, &conflicting).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("[1].lladdr"))
    );
    let message = "could not add the neighbor 172.16.0.9 lladdr 02:00:00:00:00:09 dev eth1: \
                   it has the address 02:00:00:00:00:01";
    assert_eq!(failure.to_string(), message);
    assert_eq!(shown(), before);
    let failure = add(&netcfg, &[neighbor("172.16.0.7", 7, "nosuch")]).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::NotFound, Some("[0].device"))
    );
    ip("link set lo up");
    ip("tuntap add tun1 mode tun");
    ip("link set tun1 up");
    for (address, device) in [
        ("127.0.0.9", "lo"),
        ("172.16.0.7", "lo"),
        ("fd00::7", "lo"),
        ("172.16.0.7", "tun1"),
    ] {
        let refused = [entries[1].clone(), neighbor(address, 7, device)];
        let failure = add(&netcfg, &refused).unwrap_err();
        let message =
            format!("device '{device}' has no neighbors: it is a loopback or point-to-point");
        assert_eq!(failure.to_string(), message);
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Invalid, Some("[1].device"))
        );
        assert_eq!(shown(), before);
    }
    // Below an MTU of 1280 the kernel has no IPv6 on the link, and refuses its neighbors.
    ip("link set eth2 mtu 1000");
    let failure = add(
        &netcfg,
        &[neighbor("172.16.0.7", 7, "eth1"), entries[1].clone()],
    );
    let failure = failure.unwrap_err();
    assert_eq!(failure.to_string(), "could not add the neighbor fd00::9");
    assert_eq!(failure.kind(), Kind::Kernel);
    assert_eq!(shown(), before);
}

#[test]
fn update_keeps_static_neighbors() {
    let netcfg = with_addresses();
    add(
        &netcfg,
        &[
            neighbor("172.16.0.9", 1, "eth1"),
            neighbor("fd00::9", 2, "eth1"),
        ],
    )
    .unwrap();
    let before = shown();
    let addresses = vec![address("172.16.0.4/16"), address("fd00::4/64")];
    let mtu = Mtu::try_from(1400).ok();
    let change = LinkChange::new("eth1".parse().unwrap(), Some(addresses), mtu, "ip").unwrap();
    netcfg.update(&change, AddressDetail::Listed).unwrap();
    assert_eq!(shown(), before);
}

#[test]
fn update_without_ipv4_address_keeps_static_neighbors() {
    let netcfg = with_addresses();
    let entries = [
        neighbor("172.16.0.9", 1, "eth1"),
        neighbor("fd00::9", 2, "eth1"),
    ];
    add(&netcfg, &entries).unwrap();
    let before = shown();
    for kept in [vec!["fd00::3/64"], vec![]] {
        update(&netcfg, &change("eth1", &kept, None)).unwrap();
        assert_eq!(addresses_of("eth1"), kept);
        assert_eq!(shown(), before, "{kept:?}");
    }
    // The undo removes the last IPv4 address as well.
    let failure = update(
        &netcfg,
        &change("eth1", &["172.16.0.9/16", "::1/128"], None),
    );
    let failure = failure.unwrap_err();
    assert_eq!(failure.to_string(), "could not add the address ::1/128");
    assert_eq!(addresses_of("eth1"), [""; 0]);
    assert_eq!(shown(), before);
}
