//! `patchbay-cni` behind each kind of plugin, with capabilities and traffic. The lists of plugins are
//! those of `deploy/kubernetes/examples` where there is one.

use std::fs;
use std::path::Path;

use patchbay_tests::{Cni, Guest, Machine, Netns, Pod, traffic};
use serde_json::{Value, json};

/// Returns the plugins of an example, with the addresses in use in the folder of the test.
fn example(cni: &Cni, file: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/examples");
    let text = fs::read_to_string(Path::new(folder).join(file)).unwrap();
    let (_, config) = text.split_once("config: |").unwrap();
    let config: Value = serde_json::from_str(config).unwrap();
    let mut plugins = config["plugins"].clone();
    plugins[0]["ipam"]["dataDir"] = json!(cni.file("ipam"));
    plugins[1]["timeout"] = json!(60);
    plugins
}

fn with_capabilities(guest: &Guest, ifname: &str, capabilities: Value) -> Pod {
    Pod {
        capabilities,
        ..Pod::of(guest, ifname)
    }
}

fn bridge_with_capabilities_carries_traffic(guest: &Guest, cni: &Cni) {
    let mac = "02:42:00:00:00:77";
    let capabilities = json!({"mac": mac, "ips": ["10.88.0.77/24"]});
    let pod = with_capabilities(guest, "net1", capabilities);
    let plugins = example(cni, "bridge.yaml");
    cni.run("add", &plugins, &pod).ok();
    assert_eq!(guest.ip("link show net1")[0]["address"], mac);
    assert_eq!(guest.addresses("net1"), ["10.88.0.77/24"]);
    let server = "10.88.0.1".parse().unwrap();
    traffic::exchange(cni.host(), guest, server, 20 << 20);
    cni.run("check", &plugins, &pod).ok();
    assert_tap_sends_nothing(guest);
    cni.run("del", &plugins, &pod).ok();
}

/// The kernel of the namespace must not send packets into the guest by itself.
#[track_caller]
fn assert_tap_sends_nothing(guest: &Guest) {
    let links = guest.netns().links();
    let tap = links.iter().find(|link| link.starts_with("pbt")).unwrap();
    let file = format!("cat /proc/net/dev_snmp6/{tap}");
    let counters = guest.netns().exec(&file).ok();
    let sent = counters
        .lines()
        .filter(|line| line.contains("OutRequests") || line.contains("OutMsgs"));
    for line in sent {
        assert_eq!(line.split_whitespace().last(), Some("0"), "{counters}");
    }
    assert!(counters.contains("Ip6OutRequests"), "{counters}");
}

/// A network of the node, in which another host answers.
fn macvlan_reaches_other_host(guest: &Guest, cni: &Cni) {
    let lan = Netns::new();
    let peer = format!("link add eth1 type veth peer lan1 netns {}", lan.name());
    cni.host().ip(&peer).ok();
    cni.host().ip("link set eth1 up").ok();
    lan.ip("link set lan1 up").ok();
    lan.ip("addr add 192.0.2.1/24 dev lan1").ok();
    let capabilities = json!({"ips": ["192.0.2.7/24"]});
    let pod = with_capabilities(guest, "net2", capabilities);
    let plugins = example(cni, "macvlan.yaml");
    cni.run("add", &plugins, &pod).ok();
    assert_eq!(guest.addresses("net2"), ["192.0.2.7/24"]);
    guest.exec("ping -c 2 -W 5 192.0.2.1").ok();
    cni.run("check", &plugins, &pod).ok();
    cni.run("del", &plugins, &pod).ok();
}

/// Without addresses of the network, the guest has those that it takes itself.
fn network_without_addresses_carries_frames(guest: &Guest, cni: &Cni) {
    let pod = Pod::of(guest, "net3");
    let plugins = json!([{"type": "bridge", "bridge": "br2"}, Cni::patchbay()]);
    let added = cni.run("add", &plugins, &pod).json();
    assert_eq!(added["ips"], Value::Null, "{added}");
    assert_eq!(guest.addresses("net3"), [""; 0]);
    // The bridge plugin of Debian can't check a network without IPAM.
    cni.run("check", &json!([Cni::patchbay()]), &pod).ok();
    cni.host().ip("addr add 10.77.0.1/24 dev br2").ok();
    guest.exec("ip addr add 10.77.0.2/24 dev net3").ok();
    guest.exec("ping -c 2 -W 5 10.77.0.1").ok();
    cni.run("del", &plugins, &pod).ok();
}

fn jumbo_frames_and_queues_reach_guest(guest: &Guest, cni: &Cni) {
    let pod = Pod::of(guest, "net4");
    let mut bridge = cni.bridge(&["10.89.0.0/24", "fd89::/64"]);
    bridge["bridge"] = json!("br3");
    bridge["mtu"] = json!(9000);
    let mut patchbay = Cni::patchbay();
    patchbay["queues"] = json!(4);
    let plugins = json!([bridge, patchbay]);
    cni.run("add", &plugins, &pod).ok();
    assert_eq!(guest.ip("link show net4")[0]["mtu"], 9000);
    guest.exec("ping -M do -s 8900 -c 2 -W 5 10.89.0.1").ok();
    guest.exec("ping -M do -s 8900 -c 2 -W 5 fd89::1").ok();
    let channels = guest.exec("ethtool -l net4").ok();
    let combined = channels
        .lines()
        .filter(|line| line.starts_with("Combined:"));
    let combined = combined.map(|line| line.split_whitespace().last());
    // At most, and now.
    assert_eq!(combined.collect::<Vec<_>>(), [Some("4"); 2], "{channels}");
    cni.run("check", &plugins, &pod).ok();
    cni.run("del", &plugins, &pod).ok();
}

/// `sbr` makes a routing rule and moves the routes to its table, which stay in the namespace.
fn routing_rules_are_reported(guest: &Guest, cni: &Cni) {
    let pod = Pod::of(guest, "net5");
    let mut bridge = cni.bridge(&["10.91.0.0/24"]);
    bridge["bridge"] = json!("br4");
    let plugins = json!([bridge, {"type": "sbr"}, Cni::patchbay()]);
    let rules = guest.exec("ip rule").ok();
    let added = cni.run("add", &plugins, &pod);
    let warning = "the namespace has 1 routing rules (ip rule) for the link net5, the first with 'from 10.91.0.2/32'";
    assert!(added.err.contains(warning), "{added}");
    added.ok();
    assert_eq!(guest.exec("ip rule").ok(), rules);
    assert_eq!(guest.addresses("net5"), ["10.91.0.2/24"]);
    cni.run("del", &plugins, &pod).ok();
}

#[test]
fn networks_of_each_kind_reach_guest() {
    let guest = Guest::start(Machine::Q35);
    let cni = Cni::new(guest.run_dir());
    let before = guest.snapshot();
    for case in [
        bridge_with_capabilities_carries_traffic,
        macvlan_reaches_other_host,
        network_without_addresses_carries_frames,
        jumbo_frames_and_queues_reach_guest,
        routing_rules_are_reported,
    ] {
        case(&guest, &cni);
        assert_eq!(guest.snapshot(), before);
    }
}
