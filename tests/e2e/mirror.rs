//! Cards that replace a link of the sandbox's network namespace, judged by iproute2 in the guest and in
//! the namespace, and by traffic that begins in the guest: the namespace itself can answer for the link.

use patchbay_tests::{Card, Guest, Machine, Netns};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

pub(crate) const MAC: &str = "02:00:00:00:00:11";

/// Network beyond the sandbox's namespace, with a link to it.
pub(crate) struct Outside(pub(crate) Netns);

impl Outside {
    /// Adds the link net1 to the guest's namespace, configured by the commands of `ip`; the other end is
    /// `10.1.0.1` and `fd01::1`.
    pub(crate) fn of(guest: &Guest, commands: &[&str]) -> Self {
        let outside = Netns::new();
        let netns = guest.netns();
        // The kernel deletes links with an earlier namespace only after a while.
        drop(netns.ip("link del net1"));
        let peer = format!("type veth peer peer1 netns {}", outside.name());
        netns
            .ip(&format!("link add net1 address {MAC} mtu 1400 {peer}"))
            .ok();
        netns.ip("link set net1 up").ok();
        for words in [
            "link set peer1 mtu 1400",
            "link set peer1 up",
            "addr add 10.1.0.1/24 dev peer1",
            "addr add fd01::1/64 dev peer1 nodad",
            "addr add 10.2.0.1/32 dev lo",
        ] {
            outside.ip(words).ok();
        }
        for words in commands {
            netns.ip(words).ok();
        }
        Self(outside)
    }
}

/// Settings that a `bridge` plugin with IPAM makes.
pub(crate) const BRIDGED: [&str; 4] = [
    "addr add 10.1.0.2/24 dev net1",
    "addr add fd01::2/64 dev net1 nodad",
    "route add 10.2.0.0/16 via 10.1.0.1",
    "neigh add 10.1.0.77 lladdr 02:00:00:00:00:77 dev net1 nud permanent",
];

fn add(guest: &Guest, words: &[&str]) -> patchbay_tests::Done {
    let words = [&["nic", "add", guest.id(), "--json"], words].concat();
    guest.patchbay(&words)
}

fn del(guest: &Guest, name: &str) {
    guest
        .patchbay(&["nic", "del", guest.id(), "--name", name])
        .ok();
}

/// Returns the qdiscs and filters of each link of the namespace.
pub(crate) fn redirections(guest: &Guest) -> Vec<[String; 3]> {
    let tc = |words: String| guest.netns().exec(&format!("tc {words}")).out;
    let of_link = |link: String| {
        let qdiscs = tc(format!("qdisc show dev {link}"));
        let filters = tc(format!("filter show dev {link} ingress"));
        [link, qdiscs, filters]
    };
    guest.netns().links().into_iter().map(of_link).collect()
}

fn mirror_of_bridged_link_replaces_it(guest: &Guest) {
    let outside = Outside::of(guest, &BRIDGED);
    let before = (guest.snapshot(), redirections(guest));
    let added = add(guest, &["--link", "net1", "--queues", "2"]);
    assert_eq!(added.err, "", "{added}");
    let added = added.json();
    assert_eq!(
        (&added["name"], &added["hwAddr"], &added["link"]),
        (&json!("net1"), &json!(MAC), &json!("net1"))
    );
    let link = guest.ip("-d link show net1");
    assert_eq!(
        (&link[0]["address"], &link[0]["mtu"]),
        (&json!(MAC), &json!(1400))
    );
    assert_eq!(guest.addresses("net1"), ["10.1.0.2/24", "fd01::2/64"]);
    let route = guest.ip("route show 10.2.0.0/16");
    assert_eq!(
        (&route[0]["gateway"], &route[0]["dev"]),
        (&json!("10.1.0.1"), &json!("net1"))
    );
    let neighbors = guest.exec("ip neigh show nud permanent").ok();
    assert!(
        neighbors.contains("10.1.0.77 dev net1 lladdr 02:00:00:00:00:77"),
        "{neighbors}"
    );
    guest.exec("ping -c 2 -W 5 10.1.0.1").ok();
    guest.exec("ping -c 2 -W 5 -s 1300 10.2.0.1").ok();
    guest.exec("ping -6 -c 2 -W 5 fd01::1").ok();
    outside.0.exec("ping -c 2 -W 5 10.1.0.2").ok();
    // The namespace sends nothing by itself.
    let tap = guest
        .netns()
        .links()
        .into_iter()
        .find(|link| link.starts_with("pbt"))
        .unwrap();
    let own = guest.netns().ip(&format!("-6 addr show dev {tap}")).ok();
    assert_eq!(own, "");
    // The same request again.
    let again = add(guest, &["--link", "net1", "--queues", "2"]).json();
    assert_eq!(again, added);
    let other = add(guest, &["--link", "net1", "--name", "eth9"]);
    other.assert_error(Kind::Exists, "belongs to the card 'net1'");
    del(guest, "net1");
    assert_eq!((guest.snapshot(), redirections(guest)), before);
}

/// As the plugin `ptp` leaves a link: the gateway is on the link, its network behind it.
fn mirror_of_ptp_link_reaches_its_network(guest: &Guest) {
    let outside = Outside::of(
        guest,
        &[
            "addr add 10.3.0.2/24 dev net1",
            "route del 10.3.0.0/24 dev net1",
            "route add 10.3.0.1 dev net1 scope link",
            "route add 10.3.0.0/24 via 10.3.0.1 src 10.3.0.2",
        ],
    );
    for words in [
        "addr add 10.3.0.1/32 dev peer1",
        "route add 10.3.0.2 dev peer1",
        "addr add 10.3.0.9/32 dev lo",
    ] {
        outside.0.ip(words).ok();
    }
    let document = json!({"link": "net1", "name": "eth7"}).to_string();
    let added = guest.kata_network("add-iface", &document).json();
    assert_eq!(added["IPAddresses"][0]["noPrefixRoute"], json!(true));
    assert_eq!(guest.addresses("eth7"), ["10.3.0.2/24"]);
    let routes = guest.ip("route show dev eth7");
    let dests: Vec<_> = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|route| route["dst"].as_str().unwrap())
        .collect();
    assert_eq!(dests.len(), 2, "{routes}");
    guest.exec("ping -c 2 -W 5 10.3.0.9").ok();
    guest.kata_network("del-iface", &document).assert_null();
}

/// The guest has default routes by another card.
fn mirror_keeps_or_takes_default_route(guest: &Guest) {
    let first = Card::named("eth0")
        .mac("02:00:00:00:00:01")
        .address("10.9.0.2/24");
    guest.plug(&first).ok();
    let default = json!({"dest": "default", "gateway": "10.9.0.1", "device": "eth0"});
    guest.kata_network("add-route", &default.to_string()).ok();
    let _outside = Outside::of(
        guest,
        &[
            "addr add 10.1.0.2/24 dev net1",
            "route add default via 10.1.0.1",
        ],
    );
    let way = |guest: &Guest| guest.ip("route get 192.0.2.1")[0]["dev"].clone();
    let kept = add(guest, &["--link", "net1"]);
    assert!(
        kept.err.contains("warning: the guest has the route"),
        "{kept}"
    );
    kept.ok();
    assert_eq!(way(guest), json!("eth0"));
    del(guest, "net1");
    add(guest, &["--link", "net1", "--default-route", "take"]).ok();
    assert_eq!(way(guest), json!("net1"));
    del(guest, "net1");
    assert_eq!(way(guest), json!("eth0"));
    guest.unplug(&first).assert_null();
}

fn mirror_that_is_refused_changes_nothing(guest: &Guest) {
    let _outside = Outside::of(guest, &BRIDGED);
    let before = (guest.snapshot(), redirections(guest));
    let unchanged =
        |case: &str| assert_eq!((guest.snapshot(), redirections(guest)), before, "{case}");
    add(guest, &["--link", "net2"]).assert_error(Kind::NotFound, "link 'net2' doesn't exist");
    unchanged("no link");
    add(guest, &["--link", "net1", "--name", "lo"])
        .assert_error(Kind::Exists, "name 'lo' is taken");
    unchanged("name");
    for (key, value) in [
        ("hwAddr", json!(MAC)),
        ("mtu", json!(1500)),
        ("device", json!("tap0")),
    ] {
        let mut document = json!({"link": "net1"});
        document[key] = value;
        let message = format!("{key} can't be given with link, which determines it");
        guest
            .kata_network("add-iface", &document.to_string())
            .assert_null_error(Kind::Invalid, &message);
    }
    // The last step, the routes, fails in the guest.
    guest.netns().ip("addr add 10.1.0.3/32 dev lo").ok();
    guest
        .netns()
        .ip("route add 10.99.0.0/16 via 10.1.0.1 src 10.1.0.3")
        .ok();
    let before = (guest.snapshot(), redirections(guest));
    add(guest, &["--link", "net1"])
        .assert_error(Kind::Kernel, "could not add the routes of the link");
    assert_eq!((guest.snapshot(), redirections(guest)), before);
    guest.netns().ip("route del 10.99.0.0/16").ok();
    // Kata, or a person, has given the machine a card with the link's address.
    let mut monitor = guest.monitor();
    monitor.run("netdev_add", json!({"type": "user", "id": "adopted"}));
    let device = json!({"driver": "virtio-net-pci", "netdev": "adopted", "mac": MAC, "id": "adopted", "bus": "rp3"});
    monitor.run("device_add", device);
    drop(monitor);
    let message = format!("the machine has a card of another program with the MAC address '{MAC}'");
    add(guest, &["--link", "net1"]).assert_error(Kind::Exists, &message);
    assert_eq!(redirections(guest), before.1);
}

#[test]
fn links_are_mirrored() {
    let guest = Guest::start(Machine::Q35);
    mirror_of_bridged_link_replaces_it(&guest);
    mirror_of_ptp_link_reaches_its_network(&guest);
    mirror_keeps_or_takes_default_route(&guest);
    mirror_that_is_refused_changes_nothing(&guest);
}

/// After a restart of the guest `nic apply` restores addresses and routes.
#[test]
fn mirror_is_applied_anew_after_restart() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    add(&guest, &["--link", "net1", "--name", "eth1"]).ok();
    guest.reset();
    guest
        .patchbay(&["nic", "apply", guest.id(), "--name", "eth1"])
        .ok();
    assert_eq!(guest.addresses("eth1"), ["10.1.0.2/24", "fd01::2/64"]);
    let route: Value = guest.ip("route show 10.2.0.0/16");
    assert_eq!(route[0]["gateway"], json!("10.1.0.1"));
    guest.exec("ping -c 2 -W 5 10.2.0.1").ok();
}
