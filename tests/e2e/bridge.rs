//! TAPs in a bridge: patchbay puts them there, and the neighbours of a new card find it at once.

use std::process::Command;
use std::time::{Duration, Instant};

use patchbay_tests::{Card, Done, Guest, Machine, Netns, bin, linux_6_12, run};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

const MAC: &str = "02:42:20:6f:a3:69";

fn card() -> Card {
    Card::named("eth-test")
        .mac(MAC)
        .address("172.16.0.3/16")
        .address("fd00::3/64")
}

/// Adds a bridge that learns from announcements, and a TAP in it.
fn add_bridge(guest: &Guest) {
    let netns = guest.netns();
    for words in [
        "link add br0 type bridge",
        "addr add 172.16.0.1/16 dev br0",
        "addr add fd00::1/64 dev br0 nodad",
        "link set br0 up",
        "tuntap add tap-test mode tap",
        "link set tap-test master br0",
    ] {
        netns.ip(words).ok();
    }
    // Announcements create entries; for IPv6 only on a router.
    for sysctl in [
        "net.ipv4.conf.br0.arp_accept=1",
        "net.ipv6.conf.br0.forwarding=1",
        "net.ipv6.conf.br0.accept_untracked_na=1",
    ] {
        netns.exec(&format!("sysctl -w {sysctl}")).ok();
    }
}

/// Waits until the host knows the card's MAC address; no packet to the card asks for it.
fn await_announcement(guest: &Guest, address: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let known = || {
        let shown = guest.netns().ip(&format!("-j neigh show {address}")).out;
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        shown[0]["lladdr"] == MAC
    };
    while !known() {
        assert!(Instant::now() < deadline, "{address} is not announced");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `ping` has the arguments for the first reply over IPv6.
fn assert_announced(guest: &Guest, ping: &str) {
    add_bridge(guest);
    for state in ["down", "up"] {
        guest.netns().ip(&format!("link set tap-test {state}")).ok();
        guest.netns().ip("neigh flush all").ok();
        guest.plug(&card()).ok();
        for address in ["172.16.0.3", "fd00::3"] {
            await_announcement(guest, address);
        }
        guest.netns().exec("ping -c 1 -W 5 172.16.0.3").ok();
        guest.netns().exec(&format!("ping {ping} fd00::3")).ok();
        guest.unplug(&card()).assert_null();
    }
}

/// Linux 6.1 ignores the first packets over IPv6 for up to a second.
#[test]
fn plug_announces_addresses() {
    assert_announced(&Guest::start(Machine::Q35), "-c 1 -w 10");
}

/// Linux 6.12 answers the first packet.
#[test]
fn plug_announces_addresses_on_linux_6_12() {
    let words = linux_6_12();
    let guest = Guest::start_with(Machine::Q35, &words.each_ref().map(String::as_str));
    assert_announced(&guest, "-c 1 -W 5");
}

/// Runs `patchbay nic` for the guest.
fn nic(guest: &Guest, command: &str, words: &str) -> Done {
    let words: Vec<&str> = words.split_whitespace().collect();
    guest.patchbay(&[&["nic", command, guest.id()], &*words].concat())
}

/// Returns the ports of a bridge, as `bridge` shows them.
fn ports(netns: &Netns, bridge: &str) -> Vec<String> {
    let shown = netns.exec("bridge -j link show").json();
    let ports = shown.as_array().unwrap().iter();
    let ports = ports.filter(|port| port["master"] == bridge);
    ports
        .map(|port| port["ifname"].as_str().unwrap().to_owned())
        .collect()
}

fn add_plain_bridge(netns: &Netns, name: &str, address: &str) {
    netns.ip(&format!("link add {name} type bridge")).ok();
    netns.ip(&format!("addr add {address} dev {name}")).ok();
    netns.ip(&format!("link set {name} up")).ok();
}

/// Returns the cards of the machine, the journal and the links of the namespace.
fn outside(guest: &Guest) -> [Vec<String>; 3] {
    let mut links = guest.netns().links();
    links.sort();
    [guest.monitor().devices(), guest.journal(), links]
}

#[test]
fn nic_add_with_bridge_makes_a_port_until_removal() {
    let guest = Guest::start(Machine::Q35);
    add_plain_bridge(guest.netns(), "br0", "10.0.0.1/24");
    let before = outside(&guest);
    let add = "eth1 --bridge br0 --ip 10.0.0.2/24 --json";
    let added = nic(&guest, "add", add).json();
    let device = added["device"].as_str().unwrap().to_owned();
    let mac = added["hwAddr"].as_str().unwrap().to_owned();
    assert!(mac.starts_with("02:"), "{added}");
    assert_eq!(added["bridge"], "br0");
    assert_eq!(ports(guest.netns(), "br0"), [device.as_str()]);
    assert_eq!(guest.ip("link show eth1")[0]["address"], mac.as_str());
    guest.netns().exec("ping -c 1 -W 5 10.0.0.2").ok();
    // Repeating it changes nothing, also as a document of add-iface in another case.
    let index = guest.ip("link show eth1")[0]["ifindex"].clone();
    assert_eq!(nic(&guest, "add", add).json(), added);
    let upper = added.to_string().replace("\"bridge\"", "\"BRIDGE\"");
    assert_eq!(guest.kata_network("add-iface", &upper).json(), added);
    assert_eq!(guest.ip("link show eth1")[0]["ifindex"], index);
    let other = added.to_string().replace("br0", "br9");
    guest
        .kata_network("add-iface", &other)
        .assert_null_error(Kind::Exists, "with another bridge");
    bridge_is_exported_and_repaired(&guest, &device);
    // The same card has the same TAP and MAC address again.
    nic(&guest, "del", "--name eth1").ok();
    assert_eq!(outside(&guest), before);
    assert_eq!(nic(&guest, "add", add).json(), added);
    nic(&guest, "del", "--name eth1").ok();
    // A link with the generated name makes way for no card.
    guest
        .netns()
        .ip(&format!("link add {device} type ifb"))
        .ok();
    let another = nic(&guest, "add", add).json();
    assert_ne!(another["device"], added["device"]);
    nic(&guest, "del", "--name eth1").ok();
    guest.netns().ip(&format!("link del {device}")).ok();
    assert_eq!(outside(&guest), before);
    refusals_change_nothing(&guest);
    assert_eq!(outside(&guest), before);
    bridge_of_the_host_has_the_tap(&guest);
    assert_eq!(outside(&guest), before);
}

/// `export` has the key, and a TAP that was taken out of its bridge comes back.
fn bridge_is_exported_and_repaired(guest: &Guest, device: &str) {
    let export = || guest.patchbay(&["export", guest.id()]).ok();
    let exported = export();
    assert!(exported.contains("bridge: br0"), "{exported}");
    let apply = |words: &[&str], document: &str| {
        let mut command = patchbay_tests::patchbay(
            guest.run_dir(),
            &[&["apply", guest.id(), "-"], words].concat(),
        );
        run(&mut command, document).ok()
    };
    assert_eq!(apply(&[], &exported), "");
    for break_it in ["link set TAP nomaster", "link del br0"] {
        guest.netns().ip(&break_it.replace("TAP", device)).ok();
        if break_it.contains("del") {
            add_plain_bridge(guest.netns(), "br0", "10.0.0.1/24");
        }
        let changes = apply(&[], &exported);
        assert_eq!(
            changes,
            "~ interface eth1: its TAP is not in the bridge any more\n"
        );
        assert_eq!(ports(guest.netns(), "br0"), [device]);
        assert_eq!(export(), exported);
    }
    // Another bridge needs another card.
    add_plain_bridge(guest.netns(), "br1", "10.0.1.1/24");
    let moved = exported.replace("bridge: br0", "Bridge: br1");
    let changes = apply(&[], &moved);
    assert_eq!(
        changes,
        "- interface eth1 (another bridge)\n+ interface eth1\n"
    );
    assert_eq!(ports(guest.netns(), "br1"), [device]);
    apply(&[], &exported);
    assert_eq!(ports(guest.netns(), "br0"), [device]);
    guest.netns().ip("link del br1").ok();
}

fn refusals_change_nothing(guest: &Guest) {
    guest.netns().ip("link add dummy1 type ifb").ok();
    guest.netns().ip("link add br1 type bridge").ok();
    guest.netns().ip("tuntap add tap1 mode tap").ok();
    guest.netns().ip("link set tap1 master br1").ok();
    let links = guest.netns().links();
    for (words, kind, message) in [
        (
            "eth1 --bridge br9",
            Kind::NotFound,
            "bridge 'br9' doesn't exist",
        ),
        (
            "eth1 --bridge dummy1",
            Kind::Invalid,
            "it must be a Linux bridge",
        ),
        (
            "eth1 --bridge br0 --tap tap1",
            Kind::Exists,
            "a port of another bridge than 'br0'",
        ),
        (
            "eth1 --bridge br0 --link net1",
            Kind::Invalid,
            "cannot be used with",
        ),
        (
            "eth1 --bridge br0 --vhost-user /run/x",
            Kind::Invalid,
            "cannot be used with",
        ),
        ("--bridge br0", Kind::Invalid, "<NAME>"),
        (
            "eth1 --name eth1 --bridge br0",
            Kind::Invalid,
            "cannot be used with",
        ),
    ] {
        nic(guest, "add", words).assert_error(kind, message);
        assert_eq!(guest.netns().links(), links, "{words}");
    }
    // The plug fails after the TAP was put into the bridge.
    let bad = "eth1 --bridge br0 --ip 10.0.0.2/24 --ip 10.0.0.2/16";
    let failed = nic(guest, "add", bad);
    assert_ne!(failed.status, 0, "{failed}");
    assert_eq!(ports(guest.netns(), "br0"), [""; 0], "{failed}");
    for link in ["dummy1", "tap1", "br1"] {
        guest.netns().ip(&format!("link del {link}")).ok();
    }
}

/// The host is a namespace of the test, in which the command runs.
fn bridge_of_the_host_has_the_tap(guest: &Guest) {
    let host = Netns::new();
    add_plain_bridge(&host, "br5", "10.5.0.1/24");
    let on_host = |words: &str| {
        let mut command = Command::new("ip");
        command.env("PATCHBAY_RUN_DIR", guest.run_dir());
        command
            .args(["netns", "exec", host.name()])
            .arg(bin("patchbay"));
        command.args(["nic", words.split(' ').next().unwrap(), guest.id()]);
        run(command.args(words.split(' ').skip(1)), "")
    };
    let added = on_host("add eth5 --bridge br5 --ip 10.5.0.2/24 --json").json();
    assert_eq!(added["bridge"], json!("br5"));
    assert_eq!(ports(&host, "br5"), [added["device"].as_str().unwrap()]);
    host.exec("ping -c 1 -W 5 10.5.0.2").ok();
    on_host("set --name eth5 --mtu 1400").ok();
    let tap = host
        .ip(&format!(
            "-j link show {}",
            added["device"].as_str().unwrap()
        ))
        .json();
    assert_eq!(tap[0]["mtu"], 1400);
    on_host("del --name eth5").ok();
    assert_eq!(host.links(), ["br5"]);
}
