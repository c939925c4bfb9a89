//! Documents with mirrored links, vhost-user cards and bridges, for two sandboxes in one file.

use std::sync::Arc;

use patchbay_tests::{Done, Guest, Netns, Side, Testpmd, patchbay, run, temp_dir};

use super::{apply, diff, export, index};

/// Prepares the namespace of the guest: the veth net1, a port and a bridge.
fn prepare(guest: &Guest, outside: &Netns) -> Testpmd {
    let netns = guest.netns();
    let peer = format!("type veth peer peer1 netns {}", outside.name());
    for words in [
        &format!("link add net1 address 02:00:00:00:00:11 mtu 1400 {peer}"),
        "link set net1 up",
        "addr add 10.1.0.2/24 dev net1",
        "route add 10.2.0.0/16 via 10.1.0.1",
        "link add br0 type bridge",
        "addr add 172.18.0.1/24 dev br0",
        "link set br0 up",
    ] {
        netns.ip(words).ok();
    }
    outside.ip("addr add 10.1.0.1/24 dev peer1").ok();
    outside.ip("link set peer1 up").ok();
    Testpmd::start(netns, &guest.file("port1"), 1, Side::Server)
}

fn document(guest: &Guest) -> String {
    let socket = guest.file("port1");
    format!(
        r#"
sandbox: {}
interfaces:
  - {{link: net1}}
  - {{device: port1, name: eth2, hwAddr: "02:00:00:00:00:02", mtu: 1500,
     vhostUserSocket: {}, IPAddresses: [{{address: 172.17.0.3, mask: 24}}]}}
  - {{device: tap3, name: eth3, hwAddr: "02:00:00:00:00:03", mtu: 1500, bridge: br0,
     IPAddresses: [{{address: 172.18.0.3, mask: 24}}]}}
"#,
        guest.id(),
        socket.display()
    )
}

fn assert_traffic(guest: &Guest, outside: &Netns) {
    guest.netns().exec("ping -c 1 -W 5 172.17.0.3").ok();
    guest.netns().exec("ping -c 1 -W 5 172.18.0.3").ok();
    outside.exec("ping -c 1 -W 5 10.1.0.2").ok();
}

fn file(guest: &Guest, words: &[&str], text: &str) -> Done {
    run(&mut patchbay(guest.run_dir(), words), text)
}

#[test]
fn document_of_links_and_ports_for_two_sandboxes_is_applied() {
    let node = Arc::new(temp_dir());
    let guests = [(); 2].map(|()| Guest::start_on(&node, Netns::new(), &[]));
    let [first, second] = &guests;
    let outside = Netns::new();
    let _port = prepare(first, &outside);
    first.netns().ip("addr add 172.17.0.1/24 dev out0").ok();
    let empty = export(first);
    let other = format!(
        "sandbox: {}\ninterfaces: [{{device: tap1, name: eth1, hwAddr: \"02:00:00:00:00:09\", mtu: 1400}}]\n",
        second.id()
    );
    let both = format!("{}---\n{other}", document(first));
    let shown = file(first, &["diff", "-"], &both);
    assert_eq!(shown.status, 1, "{shown}");
    let changes = file(first, &["apply", "-"], &both).ok();
    assert_eq!(changes, shown.out);
    let [a, b] = [first.id(), second.id()];
    let expected = format!(
        "{a}: + interface net1\n{a}: + interface eth2\n{a}: + interface eth3\n{b}: + interface eth1\n"
    );
    assert_eq!(changes, expected);
    assert_traffic(first, &outside);
    assert_eq!(first.addresses("net1"), ["10.1.0.2/24"]);
    assert_eq!(second.ip("link show eth1")[0]["mtu"], 1400);
    assert_eq!(file(first, &["apply", "-"], &both).ok(), "");
    let exported = export(first);
    for part in ["link: net1", "bridge: br0", "vhostUserSocket: "] {
        assert!(exported.contains(part), "{part}: {exported}");
    }
    let cards = ["net1", "eth2", "eth3"].map(|name| index(first, name));
    assert_eq!(apply(first, &exported).ok(), "");
    assert_eq!(
        ["net1", "eth2", "eth3"].map(|name| index(first, name)),
        cards
    );
    card_follows_its_link(first);
    // Only the second sandbox changes.
    let larger = both.replace("mtu: 1400", "mtu: 1450");
    let line = format!("{b}: ~ interface eth1: mtu 1450\n");
    assert_eq!(file(first, &["apply", "-"], &larger).ok(), line);
    assert_eq!(export(first), exported);
    fixed_keys_replace_their_card(first, &exported);
    first.reset();
    apply(first, &exported).ok();
    assert_eq!(export(first), exported);
    assert_traffic(first, &outside);
    apply(first, &empty).ok();
    assert_eq!(export(first), empty);
    let bridge = first.netns().exec("bridge link show").ok();
    assert_eq!(bridge, "");
}

/// A document has no addresses and no MTU of a card with a link: they are the link's.
fn card_follows_its_link(guest: &Guest) {
    let link = "interfaces: [{link: net1}]\n";
    let words = ["apply", "--prune=false", guest.id(), "-"];
    let now = index(guest, "net1");
    let set = ["nic", "set", guest.id(), "--name", "net1"];
    guest
        .patchbay(&[&set[..], &["--ip", "10.1.0.77/24", "--mtu", "1300"]].concat())
        .ok();
    let changes = file(guest, &words, link).ok();
    assert!(changes.starts_with("~ interface net1: "), "{changes}");
    assert_eq!(guest.addresses("net1"), ["10.1.0.2/24"]);
    assert_eq!(guest.ip("link show net1")[0]["mtu"], 1400);
    assert_eq!(index(guest, "net1"), now);
    guest.netns().ip("addr add 10.1.0.4/24 dev net1").ok();
    file(guest, &words, link).ok();
    assert_eq!(guest.addresses("net1"), ["10.1.0.2/24", "10.1.0.4/24"]);
    guest.netns().ip("addr del 10.1.0.4/24 dev net1").ok();
    file(guest, &words, link).ok();
    assert_eq!(file(guest, &words, link).ok(), "");
}

/// Each key that is fixed replaces its card alone.
fn fixed_keys_replace_their_card(first: &Guest, exported: &str) {
    for (from, to, change) in [
        (
            "link: net1",
            "link: net1\n    queues: 2",
            "net1 (another queues)",
        ),
        ("    bridge: br0\n", "", "eth3 (another bridge)"),
    ] {
        let moved = exported.replace(from, to);
        let shown = diff(first, &moved);
        let removed = format!("- interface {change}\n");
        assert!(shown.out.starts_with(&removed), "{shown}\n{moved}");
        assert_eq!(
            shown
                .out
                .lines()
                .filter(|line| line.contains("interface"))
                .count(),
            2
        );
    }
}
