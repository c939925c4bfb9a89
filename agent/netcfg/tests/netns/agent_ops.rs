//! The service on a real kernel, in a network namespace of each test's own; judged by iproute2.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use patchbay_netcfg::device::Sysfs;
use patchbay_netcfg::ethtool::EthtoolBackend;
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    Arp, Interface, InterfaceAddress, LinkFields, LinkSpec, Mtu, PciAddress, PciPath, QueuePairs,
};
use serde_json::Value;
use tempfile::TempDir;

const MAC: &str = "02:42:20:6f:a3:69";

/// A namespace with one "card": a veth that a made-up sysfs puts at PCI path 01.0/00.
struct Bench {
    services: Netcfg,
    sysfs: TempDir,
}

impl Bench {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
        ip("link set lo up");
        let sysfs = tempfile::tempdir().unwrap();
        let services = Netcfg::open(Sysfs::at(sysfs.path()), EthtoolBackend::Auto, None).unwrap();
        Self { services, sysfs }
    }

    fn with_card() -> Self {
        let bench = Self::new();
        plug(bench.sysfs.path());
        bench
    }

    fn configure(&self, spec: &LinkSpec, wait: Duration) -> Result<Interface, Failure> {
        let steps = [8, 0].map(PciAddress::from_devfn);
        let path = PciPath::new(steps.to_vec()).unwrap();
        let done = self.services.configure(&path, spec, Instant::now() + wait);
        done.map(|done| done.interface)
            .map_err(|error| Failure::from(&error))
    }
}

/// Makes the card. The made-up sysfs knows it under its first and under its later name.
fn plug(sysfs: &Path) {
    ip(&format!(
        "link add eth0 address {MAC} type veth peer name peer"
    ));
    ip("link set peer up");
    let index = &json("link show eth0")[0]["ifindex"];
    for name in ["eth0", "eth-test"] {
        let device = "devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio0/net";
        let device = format!("{device}/{name}");
        fs::create_dir_all(sysfs.join(&device)).unwrap();
        fs::write(sysfs.join(&device).join("ifindex"), format!("{index}\n")).unwrap();
        fs::create_dir_all(sysfs.join("class/net")).unwrap();
        symlink(
            format!("../../{device}"),
            sysfs.join("class/net").join(name),
        )
        .unwrap();
    }
}

fn ip(words: &str) -> String {
    let done = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

fn json(words: &str) -> Value {
    serde_json::from_str(&ip(&format!("-j -d {words}"))).unwrap()
}

fn address(text: &str) -> InterfaceAddress {
    let (ip, prefix) = text.split_once('/').unwrap();
    InterfaceAddress::new(ip.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

fn parts() -> LinkFields {
    LinkFields {
        name: "eth-test".parse().unwrap(),
        mac: MAC.parse().unwrap(),
        mtu: Mtu::try_from(1400).unwrap(),
        addresses: vec![address("172.16.0.3/16"), address("fd00::3/64")],
        queues: None,
        arp: Arp::On,
    }
}

fn spec(parts: LinkFields) -> LinkSpec {
    LinkSpec::new(parts, "addresses").unwrap()
}

/// Everything of the card that iproute2 shows, but for counters and what depends on time.
fn picture(name: &str) -> (Value, Value, String) {
    let mut link = json(&format!("link show {name}"));
    link[0].as_object_mut().unwrap().remove("ifname");
    let addresses = json(&format!("addr show {name}"))[0]["addr_info"].take();
    (
        link,
        addresses,
        ip("-4 route show table all") + &ip("-6 route show table all"),
    )
}

const NOW: Duration = Duration::ZERO;

#[test]
fn a_card_gets_all_that_was_asked() {
    let bench = Bench::with_card();
    let interface = bench.configure(&spec(parts()), NOW).unwrap();

    let link = json("link show eth-test")[0].take();
    assert_eq!(link["address"], MAC);
    assert_eq!(link["mtu"], 1400);
    assert!(
        link["flags"].as_array().unwrap().contains(&"UP".into()),
        "{link}"
    );
    let addresses = json("addr show eth-test")[0]["addr_info"].take();
    let global = addresses
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["scope"] == "global");
    let global: Vec<String> = global
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect();
    assert_eq!(global, ["172.16.0.3/16", "fd00::3/64"]);
    assert_eq!(addresses[0]["broadcast"], "172.16.255.255");
    assert_eq!(
        ip("route show").trim_end(),
        "172.16.0.0/16 dev eth-test proto kernel scope link src 172.16.0.3"
    );
    assert_eq!(interface.name, "eth-test");
    assert_eq!(interface.addresses, parts().addresses);
    assert_eq!(interface.path.unwrap().to_string(), "01.0/00");
}

#[test]
fn the_same_again_changes_nothing() {
    let bench = Bench::with_card();
    bench.configure(&spec(parts()), NOW).unwrap();
    let before = picture("eth-test");
    bench.configure(&spec(parts()), NOW).unwrap();
    assert_eq!(picture("eth-test"), before);
}

#[test]
fn addresses_that_are_not_wanted_go() {
    let bench = Bench::with_card();
    ip("addr add 10.9.8.7/24 dev eth0");
    bench.configure(&spec(parts()), NOW).unwrap();
    assert!(!ip("addr show eth-test").contains("10.9.8.7"));
}

#[test]
fn no_arp_is_set_and_taken_back() {
    let bench = Bench::with_card();
    bench
        .configure(
            &spec(LinkFields {
                arp: Arp::Off,
                ..parts()
            }),
            NOW,
        )
        .unwrap();
    assert!(ip("link show eth-test").contains("NOARP"));
    bench.configure(&spec(parts()), NOW).unwrap();
    assert!(!ip("link show eth-test").contains("NOARP"));
}

#[test]
fn a_name_of_another_link_is_refused_and_nothing_changes() {
    let bench = Bench::with_card();
    ip("link add eth-test type bridge");
    let before = picture("eth0");
    let failure = bench.configure(&spec(parts()), NOW).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::Exists, Some("name"))
    );
    assert_eq!(picture("eth0"), before);
}

#[test]
fn an_address_that_the_kernel_refuses_undoes_all_before_it() {
    let bench = Bench::with_card();
    fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let before = picture("eth0");
    let failure = bench.configure(&spec(parts()), NOW).unwrap_err();
    assert_eq!(failure.kind(), Kind::Denied);
    assert_eq!(failure.to_string(), "could not add the address fd00::3/64");
    let chain: Vec<&str> = failure.chain().collect();
    assert!(chain[0].contains("IPv6 is disabled"), "{chain:?}");
    assert_eq!(picture("eth0"), before);
}

/// A veth counts its queues in another way than a card of virtio-net.
#[test]
fn queues_that_the_driver_does_not_know_undo_all_before_them() {
    let bench = Bench::with_card();
    let before = picture("eth0");
    let queues = Some(QueuePairs::try_from(2).unwrap());
    let failure = bench
        .configure(&spec(LinkFields { queues, ..parts() }), NOW)
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::Unsupported);
    assert_eq!(failure.to_string(), "could not set the card's queues to 2");
    assert_eq!(picture("eth0"), before);
}

#[test]
fn a_card_that_is_up_is_renamed_with_its_routes() {
    let bench = Bench::with_card();
    ip("link set eth0 up");
    ip("addr add 172.16.0.3/16 dev eth0");
    ip("addr add fd00::3/64 dev eth0 nodad");
    ip("route add 10.1.0.0/16 via 172.16.0.1");
    ip("route add fd01::/64 via fd00::1");
    bench.configure(&spec(parts()), NOW).unwrap();
    assert!(ip("route show").contains("10.1.0.0/16 via 172.16.0.1 dev eth-test"));
    assert!(ip("-6 route show").contains("fd01::/64 via fd00::1 dev eth-test"));
}

#[test]
fn a_card_that_never_appears_is_not_yet() {
    let bench = Bench::new();
    let begun = Instant::now();
    let failure = bench
        .configure(&spec(parts()), Duration::from_millis(300))
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert!(failure.to_string().contains("01.0/00"), "{failure}");
    let waited = begun.elapsed();
    assert!(
        waited >= Duration::from_millis(300) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
}

#[test]
fn a_card_with_another_mac_is_not_taken() {
    let bench = Bench::with_card();
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let before = picture("eth0");
    let failure = bench
        .configure(&spec(LinkFields { mac, ..parts() }), NOW)
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert!(failure.to_string().contains(MAC), "{failure}");
    assert_eq!(picture("eth0"), before);
}

#[test]
fn a_card_that_appears_late_is_found_at_once() {
    let bench = Bench::new();
    let sysfs = bench.sysfs.path().to_owned();
    let plugger = thread::spawn(move || {
        // Other links come and go meanwhile: each is an event that means nothing.
        for number in 0..20 {
            ip(&format!("link add br{number} type bridge"));
        }
        plug(&sysfs);
        // The real sysfs is there before the event is; this one is written after it.
        ip("link set eth0 mtu 1499");
    });
    let interface = bench
        .configure(&spec(parts()), Duration::from_secs(20))
        .unwrap();
    plugger.join().unwrap();
    assert_eq!(interface.name, "eth-test");
}

/// Waits until so many requests wait for a card: each listens to links and IPv6 addresses.
fn until_waiting(count: usize) {
    let listeners = || {
        let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        sockets.matches(" 00000101 ").count()
    };
    while listeners() != count {
        thread::yield_now();
    }
}

/// The first is left of a command that was killed.
#[test]
fn of_two_requests_for_one_card_the_later_is_meant() {
    let bench = Bench::new();
    let old = LinkFields {
        addresses: vec![address("172.16.0.9/16")],
        ..parts()
    };
    let patience = Duration::from_secs(20);
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| bench.configure(&spec(old), patience));
        until_waiting(1);
        let second = scope.spawn(|| bench.configure(&spec(parts()), patience));
        until_waiting(2);
        plug(bench.sysfs.path());
        ip("link set eth0 mtu 1499");
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.unwrap_err().kind(), Kind::NotYet);
    assert_eq!(second.unwrap().addresses, parts().addresses);
    assert!(!ip("addr show eth-test").contains("172.16.0.9"));
}

#[test]
fn every_interface_is_listed() {
    let bench = Bench::with_card();
    bench.configure(&spec(parts()), NOW).unwrap();
    let mut names: Vec<String> = bench
        .services
        .list()
        .unwrap()
        .into_iter()
        .map(|interface| interface.name)
        .collect();
    names.sort();
    assert_eq!(names, ["eth-test", "lo", "peer"]);
}
