//! Configuring a card.

mod waiting;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, Arp, Interface, InterfaceAddress, LinkFields, LinkSpec, ListedAddress, Mtu,
    Neighbor, Owner, PciAddress, PciPath, QueuePairs,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    address, addresses_of, addresses_text, change, global_addresses, ip, ip_json,
    netcfg_in_new_netns, refusal, routes_text,
};

const MAC: &str = "02:42:20:6f:a3:69";

/// Interface index of the card.
const INDEX: u32 = 77;

/// Network namespace with a fake sysfs, in which a veth is the card at PCI path 01.0/00.
struct Guest {
    netcfg: Netcfg,
    sysfs: TempDir,
}

impl Guest {
    fn without_card() -> Self {
        let sysfs = tempfile::tempdir().unwrap();
        let netcfg = netcfg_in_new_netns(sysfs.path());
        Self { netcfg, sysfs }
    }

    fn with_card() -> Self {
        let guest = Self::without_card();
        plug(guest.sysfs.path());
        guest
    }

    fn configure(&self, spec: &LinkSpec, wait: Duration) -> Result<Interface, Failure> {
        let path = path();
        let configured = self
            .netcfg
            .configure(&path, spec, &[], Instant::now() + wait);
        configured
            .map(|configured| configured.interface)
            .map_err(Failure::from)
    }
}

/// PCI path of the card.
fn path() -> PciPath {
    let steps = [8, 0].map(PciAddress::from_devfn);
    PciPath::new(steps.to_vec()).unwrap()
}

/// Adds the card. As in the real sysfs its files exist before the event of the new link, under its
/// first name and under the later one.
fn plug(sysfs: &Path) {
    for name in ["eth0", "eth-test"] {
        let device = "devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio0/net";
        let device = format!("{device}/{name}");
        fs::create_dir_all(sysfs.join(&device)).unwrap();
        fs::write(sysfs.join(&device).join("ifindex"), format!("{INDEX}\n")).unwrap();
        fs::create_dir_all(sysfs.join("class/net")).unwrap();
        let link = sysfs.join("class/net").join(name);
        symlink(format!("../../{device}"), link).unwrap();
    }
    ip(&format!(
        "link add eth0 index {INDEX} address {MAC} type veth peer name peer"
    ));
    ip("link set peer up");
}

fn fields() -> LinkFields {
    LinkFields {
        name: "eth-test".parse().unwrap(),
        mac: MAC.parse().unwrap(),
        mtu: Mtu::try_from(1400).unwrap(),
        addresses: vec![address("172.16.0.3/16"), address("fd00::3/64")],
        queues: None,
        arp: Arp::On,
    }
}

fn spec(fields: LinkFields) -> LinkSpec {
    LinkSpec::new(fields, "addresses").unwrap()
}

/// The addresses as those of patchbay.
fn own(addresses: &[InterfaceAddress]) -> Vec<ListedAddress> {
    let own = |address: &InterfaceAddress| ListedAddress {
        address: *address,
        owner: Owner::Patchbay,
    };
    addresses.iter().map(own).collect()
}

/// Returns all that iproute2 shows of the card, of addresses and of routes, without counters and
/// without state that the kernel changes in the background.
fn snapshot(name: &str) -> (Value, String, String) {
    // The kernel adds the local route of an IPv6 address in the background.
    let has_local_route = |address: &String| {
        let (ip_address, _) = address.split_once('/').unwrap();
        ip("-6 route show table local").contains(&format!("local {ip_address} dev {name} "))
    };
    let mut v6 = global_addresses(name);
    v6.retain(|address| address.contains(':'));
    while !v6.iter().all(has_local_route) {
        thread::yield_now();
    }
    let mut link = ip_json(&format!("-d link show {name}"));
    let fields = link[0].as_object_mut().unwrap();
    for background in ["operstate", "qdisc"] {
        fields.remove(background);
    }
    (link, addresses_text(), routes_text("table all"))
}

/// Doesn't wait for the card.
const NOW: Duration = Duration::ZERO;

#[test]
fn configure_sets_everything() {
    let guest = Guest::with_card();
    let interface = guest.configure(&spec(fields()), NOW).unwrap();

    let link = ip_json("link show eth-test")[0].take();
    assert_eq!(link["address"], MAC);
    assert_eq!(link["mtu"], 1400);
    assert!(
        link["flags"].as_array().unwrap().contains(&"UP".into()),
        "{link}"
    );
    assert_eq!(
        global_addresses("eth-test"),
        ["172.16.0.3/16", "fd00::3/64"]
    );
    let addresses = ip_json("addr show eth-test")[0]["addr_info"].take();
    assert_eq!(addresses[0]["broadcast"], "172.16.255.255");
    assert_eq!(
        ip("route show").trim_end(),
        "172.16.0.0/16 dev eth-test proto kernel scope link src 172.16.0.3"
    );
    assert_eq!(interface.name.to_string(), "eth-test");
    assert_eq!(interface.addresses, own(&fields().addresses));
    assert_eq!(interface.path.unwrap().to_string(), "01.0/00");
}

#[test]
fn configure_again_changes_nothing() {
    let guest = Guest::with_card();
    guest.configure(&spec(fields()), NOW).unwrap();
    let before = snapshot("eth-test");
    guest.configure(&spec(fields()), NOW).unwrap();
    assert_eq!(snapshot("eth-test"), before);
}

#[test]
fn configure_replaces_addresses_of_patchbay_only() {
    let guest = Guest::with_card();
    let old = LinkFields {
        addresses: vec![address("172.16.0.9/16"), address("fd00::9/64")],
        ..fields()
    };
    guest.configure(&spec(old), NOW).unwrap();
    ip("addr add 10.9.8.7/24 dev eth-test");
    guest.configure(&spec(fields()), NOW).unwrap();
    assert_eq!(
        global_addresses("eth-test"),
        ["10.9.8.7/24", "172.16.0.3/16", "fd00::3/64"]
    );
}

/// A DHCP client such as busybox's sets a permanent address.
#[test]
fn update_of_card_without_own_addresses_keeps_plain_ones() {
    let guest = Guest::with_card();
    let addresses = vec![];
    guest
        .configure(
            &spec(LinkFields {
                addresses,
                ..fields()
            }),
            NOW,
        )
        .unwrap();
    ip("addr add 172.16.0.50/16 dev eth-test");
    let update = |addresses: &[&str]| {
        let change = change("eth-test", addresses, None).with_card(Some(path()));
        guest.netcfg.update(&change, AddressDetail::Listed).unwrap();
        addresses_of("eth-test")
    };
    let both = ["172.16.0.50/16", "172.16.0.9/16"];
    assert_eq!(update(&["172.16.0.9/16"]), both);
    assert_eq!(update(&[]), ["172.16.0.50/16"]);
}

#[test]
fn configure_sets_and_clears_noarp() {
    let guest = Guest::with_card();
    guest
        .configure(
            &spec(LinkFields {
                arp: Arp::Off,
                ..fields()
            }),
            NOW,
        )
        .unwrap();
    assert!(ip("link show eth-test").contains("NOARP"));
    guest.configure(&spec(fields()), NOW).unwrap();
    assert!(!ip("link show eth-test").contains("NOARP"));
}

#[test]
fn configure_taken_name_fails_without_change() {
    let guest = Guest::with_card();
    ip("link add eth-test type bridge");
    let before = snapshot("eth0");
    let failure = guest.configure(&spec(fields()), NOW).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("name"))
    );
    assert_eq!(snapshot("eth0"), before);
}

#[test]
fn configure_refused_address_rolls_back() {
    let guest = Guest::with_card();
    fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let before = snapshot("eth0");
    let refused = refusal("addr add fd00::3/64 dev eth0 nodad", "Permission denied");
    let failure = guest.configure(&spec(fields()), NOW).unwrap_err();
    assert_eq!(failure.kind(), Kind::Denied);
    assert_eq!(failure.errno(), Some(libc::EACCES));
    assert_eq!(failure.to_string(), "could not add the address fd00::3/64");
    let chain: Vec<&str> = failure.chain().collect();
    assert_eq!(chain, [refused]);
    assert_eq!(snapshot("eth0"), before);
}

/// A veth has no combined channels, unlike virtio-net.
#[test]
fn configure_unsupported_queues_rolls_back() {
    let guest = Guest::with_card();
    let before = snapshot("eth0");
    let queues = Some(QueuePairs::try_from(2).unwrap());
    let failure = guest
        .configure(&spec(LinkFields { queues, ..fields() }), NOW)
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::Unsupported);
    assert_eq!(failure.to_string(), "could not set the card's queues to 2");
    assert_eq!(snapshot("eth0"), before);
}

#[test]
fn rename_of_link_that_is_up_keeps_routes() {
    let guest = Guest::with_card();
    ip("link set eth0 up");
    ip("addr add 172.16.0.3/16 dev eth0");
    ip("addr add fd00::3/64 dev eth0 nodad");
    ip("route add 10.1.0.0/16 via 172.16.0.1");
    ip("route add fd01::/64 via fd00::1");
    guest.configure(&spec(fields()), NOW).unwrap();
    assert!(ip("route show").contains("10.1.0.0/16 via 172.16.0.1 dev eth-test"));
    assert!(ip("-6 route show").contains("fd01::/64 via fd00::1 dev eth-test"));
}

#[test]
fn configure_card_with_other_mac_fails() {
    let guest = Guest::with_card();
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let before = snapshot("eth0");
    let failure = guest
        .configure(&spec(LinkFields { mac, ..fields() }), NOW)
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert!(failure.to_string().contains(MAC), "{failure}");
    assert_eq!(snapshot("eth0"), before);
}

#[test]
fn list_has_every_interface() {
    let guest = Guest::with_card();
    guest.configure(&spec(fields()), NOW).unwrap();
    let mut names: Vec<String> = guest
        .netcfg
        .list(AddressDetail::Listed)
        .unwrap()
        .into_iter()
        .map(|interface| interface.name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["eth-test", "lo", "peer"]);
}

/// Adds static neighbors with the MAC addresses 02:00:00:00:00:01 and so on.
fn with_neighbors(fields: LinkFields, ips: &[&str]) -> LinkSpec {
    let neighbor = |(ip, last): (&&str, u8)| Neighbor {
        ip: ip.parse::<IpAddr>().unwrap().try_into().unwrap(),
        lladdr: [2, 0, 0, 0, 0, last].into(),
        device: (),
    };
    let neighbors = ips.iter().zip(1..).map(neighbor).collect();
    spec(fields).with_neighbors(neighbors, "neighbors").unwrap()
}

#[test]
fn configure_sets_neighbors_and_keeps_others() {
    let guest = Guest::with_card();
    ip("link set eth0 up");
    ip("neigh add 172.16.0.7 lladdr 02:00:00:00:00:07 dev eth0");
    ip("neigh add 172.16.0.9 lladdr 02:00:00:00:00:77 dev eth0");
    let wanted = with_neighbors(fields(), &["172.16.0.9", "fd00::9"]);
    for _ in 0..2 {
        guest.configure(&wanted, NOW).unwrap();
        let shown = ip("neigh show dev eth-test nud permanent");
        let mut lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "172.16.0.7 lladdr 02:00:00:00:00:07 PERMANENT",
                "172.16.0.9 lladdr 02:00:00:00:00:01 PERMANENT",
                "fd00::9 lladdr 02:00:00:00:00:02 PERMANENT",
            ]
        );
    }
}

#[test]
fn configure_refused_neighbor_rolls_back() {
    let guest = Guest::with_card();
    ip("link set eth0 up");
    ip("neigh add 172.16.0.9 lladdr 02:00:00:00:00:77 dev eth0");
    let neighbors = || ip("neigh show nud permanent");
    let before = (snapshot("eth0"), neighbors());
    // Below an MTU of 1280 the kernel has no IPv6 on the card.
    let small = LinkFields {
        mtu: Mtu::try_from(1000).unwrap(),
        addresses: vec![address("172.16.0.3/16")],
        ..fields()
    };
    let wanted = with_neighbors(small, &["172.16.0.9", "fd00::9"]);
    let failure = guest.configure(&wanted, NOW).unwrap_err();
    assert_eq!(failure.to_string(), "could not add the neighbor fd00::9");
    assert_eq!(failure.kind(), Kind::Kernel);
    assert_eq!((snapshot("eth0"), neighbors()), before);
}
