//! Cards whose present name is another one than that of the request.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AddressDetail, Arp, LinkChange, LinkFields, LinkSpec, Mtu, PciAddress, PciPath,
};
use tempfile::TempDir;

use crate::harness::{address, ip, ip_json, netcfg_in_new_netns};

/// Network namespace with a fake sysfs, in which veths are cards.
struct Guest {
    netcfg: Netcfg,
    sysfs: TempDir,
}

impl Guest {
    /// The cards `eth0` in the first root port and `eth1` in the second.
    fn with_two_cards() -> Self {
        let sysfs = tempfile::tempdir().unwrap();
        let netcfg = netcfg_in_new_netns(sysfs.path());
        let guest = Self { netcfg, sysfs };
        guest.plug("eth0", 1);
        guest.plug("eth1", 2);
        guest
    }

    fn plug(&self, name: &str, slot: u32) {
        let index = 70 + slot;
        let device = format!("devices/pci0000:00/0000:00:0{slot}.0/0000:0{slot}:00.0/virtio0/net");
        let device = self.sysfs.path().join(device).join(name);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("ifindex"), format!("{index}\n")).unwrap();
        let class = self.sysfs.path().join("class/net");
        fs::create_dir_all(&class).unwrap();
        symlink(device, class.join(name)).unwrap();
        ip(&format!(
            "link add {name} index {index} address 02:00:00:00:00:0{slot} type veth peer name peer{slot}"
        ));
        ip(&format!("link set peer{slot} up"));
    }

    /// Configures the first card as `eth1`.
    fn configure(&self, yielding: &[PciPath]) -> Result<(), Failure> {
        let fields = LinkFields {
            name: "eth1".parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: Mtu::try_from(1400).unwrap(),
            addresses: vec![address("172.16.0.3/16"), address("fd00::3/64")],
            queues: None,
            arp: Arp::On,
        };
        let spec = LinkSpec::new(fields, "addresses").unwrap();
        let configured = self
            .netcfg
            .configure(&path(1), &spec, yielding, Instant::now());
        configured.map(drop).map_err(Failure::from)
    }

    /// Sets the MTU of `name`, under which the card behind this root port was plugged.
    fn update(&self, name: &str, slot: u8) -> Result<(), Failure> {
        let mtu = Mtu::try_from(1400).ok();
        let change = LinkChange::new(name.parse().unwrap(), None, mtu, "addresses").unwrap();
        let updated = self
            .netcfg
            .update(&change.with_card(Some(path(slot))), AddressDetail::Listed);
        updated.map(drop).map_err(Failure::from)
    }
}

fn path(slot: u8) -> PciPath {
    let steps = [slot, 0].map(|slot| PciAddress::new(slot, 0).unwrap());
    PciPath::new(steps.to_vec()).unwrap()
}

/// Returns the names of the cards, in the order of their slots.
fn names() -> Vec<String> {
    let links = ip_json("link show");
    let name = |index: u32| {
        let mut links = links.as_array().unwrap().iter();
        let link = links.find(|link| link["ifindex"] == index).unwrap();
        link["ifname"].as_str().unwrap().to_owned()
    };
    vec![name(71), name(72)]
}

fn mtu(name: &str) -> u64 {
    ip_json(&format!("link show {name}"))[0]["mtu"]
        .as_u64()
        .unwrap()
}

#[test]
fn configure_name_of_other_card_needs_that_it_yields() {
    let guest = Guest::with_two_cards();
    let failure = guest.configure(&[path(3)]).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("name"))
    );
    assert_eq!(names(), ["eth0", "eth1"]);
    guest.configure(&[path(2)]).unwrap();
    assert_eq!(names(), ["eth1", "pb72"]);
    assert_eq!(mtu("eth1"), 1400);
}

#[test]
fn configure_that_fails_returns_the_name() {
    let guest = Guest::with_two_cards();
    ip("link set eth1 up");
    fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let failure = guest.configure(&[path(2)]).unwrap_err();
    assert_eq!(failure.kind(), Kind::Denied);
    assert_eq!(names(), ["eth0", "eth1"]);
}

#[test]
fn update_by_plugged_name_changes_the_card() {
    let guest = Guest::with_two_cards();
    guest.update("eth-test", 1).unwrap();
    guest.update("eth1", 2).unwrap();
    assert_eq!((mtu("eth0"), mtu("eth1")), (1400, 1400));
    assert_eq!(guest.update("eth9", 9).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn update_renames_a_card_and_refuses_a_name_that_is_taken() {
    let guest = Guest::with_two_cards();
    ip("link set eth0 up");
    ip("addr add 172.16.0.3/16 dev eth0");
    ip("route add default via 172.16.0.1");
    let routes = ip("route show");
    let rename = |name: &str, new: &str, mtu| {
        let change = LinkChange::new(name.parse().unwrap(), None, mtu, "addresses").unwrap();
        let change = change.with_rename(new.parse().ok());
        let updated = guest.netcfg.update(&change, AddressDetail::Omitted);
        updated.map_err(Failure::from)
    };
    let failure = rename("eth0", "eth1", None).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("name"))
    );
    // The kernel has no IPv6 below that MTU.
    ip("addr add fd00::3/64 dev eth0 nodad");
    let small = Mtu::try_from(1000).ok();
    assert_eq!(
        rename("eth0", "wan0", small).unwrap_err().kind(),
        Kind::Invalid
    );
    assert_eq!(names(), ["eth0", "eth1"]);
    let renamed = rename("eth0", "wan0", Mtu::try_from(1400).ok()).unwrap();
    assert_eq!(renamed.name.to_string(), "wan0");
    assert_eq!((names()[0].as_str(), mtu("wan0")), ("wan0", 1400));
    assert_eq!(ip("route show"), routes.replace("eth0", "wan0"));
}

#[test]
fn update_ambiguous_name_changes_nothing() {
    let guest = Guest::with_two_cards();
    for (slot, words) in [(1, "is now 'eth0'"), (9, "not in this network namespace")] {
        let failure = guest.update("eth1", slot).unwrap_err();
        assert_eq!(
            (failure.kind(), failure.field()),
            (Kind::Invalid, Some("name"))
        );
        assert!(failure.to_string().contains(words), "{failure}");
    }
    assert_eq!((mtu("eth0"), mtu("eth1")), (1500, 1500));
}
