//! Links and sandboxes that `patchbay watch` leaves alone.

use patchbay_tests::{Guest, Machine, Netns, patchbay, run, temp_dir};
use patchbay_types::failure::Kind;
use serde_json::json;

use super::mirror::{BRIDGED, Outside, redirections};
use super::watch::{changes, in_netns, once};

/// Links that other programs, or the operator, take care of.
#[test]
fn watch_once_leaves_others_alone() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    for link in ["l-down", "l-lower", "l-port", "l-kata", "l-mac", "l-skip"] {
        in_netns(
            &guest,
            &[&format!("link add {link} type veth peer p-{link}")],
        );
        // Both ends are links of the namespace.
        in_netns(&guest, &[&format!("link set {link} up")]);
    }
    in_netns(
        &guest,
        &[
            "link set l-down down",
            "link add above link l-lower type macvlan mode bridge",
            "link add br0 type bridge",
            "link add shaper type ifb",
            "link set shaper up",
            "link set l-port master br0",
            "link set l-mac address 02:00:00:00:00:21",
        ],
    );
    for words in [
        "tc qdisc add dev l-kata ingress",
        "tc filter add dev l-kata ingress u32 match u8 0 0 action mirred egress redirect dev p-l-kata",
    ] {
        guest.netns().exec(words).ok();
    }
    let mut monitor = guest.monitor();
    monitor.run("netdev_add", json!({"type": "user", "id": "adopted"}));
    monitor.run(
        "device_add",
        json!({"driver": "virtio-net-pci", "netdev": "adopted", "mac": "02:00:00:00:00:21", "bus": "rp3"}),
    );
    drop(monitor);
    // A card of the operator.
    guest
        .patchbay(&["nic", "add", guest.id(), "--link", "net1"])
        .ok();
    let before = (guest.snapshot(), redirections(&guest));
    for words in [
        &["--exclude", "l-sk*"][..],
        &["--exclude", "l-sk*", "--dry-run"],
    ] {
        assert_eq!(changes(once(&guest, words)), [""; 0]);
    }
    assert_eq!((guest.snapshot(), redirections(&guest)), before);
    assert_eq!(changes(once(&guest, &["--dry-run"])), ["plug l-skip"]);
    in_netns(&guest, &["link del net1"]);
    assert_eq!(changes(once(&guest, &["--exclude", "l-sk*"])), [""; 0]);
    guest.ip("link show net1");
}

#[test]
fn watch_leaves_links_alone_that_an_annotation_names() {
    let guest = Guest::start(Machine::Q35);
    let _outside = Outside::of(&guest, &BRIDGED);
    let roots = temp_dir();
    let tasks = "run/containerd/io.containerd.runtime.v2.task/moby";
    let bundle = roots.path().join(tasks).join(guest.id());
    std::fs::create_dir_all(&bundle).unwrap();
    let planned = |patterns: &str| {
        let config = json!({"annotations": {"patchbay/watch-exclude": patterns}});
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let words = ["watch", "--once", "--dry-run", guest.id()];
        let mut command = patchbay(guest.run_dir(), &words);
        run(command.env("PATCHBAY_KATA_ROOTS", roots.path()), "")
    };
    assert_eq!(changes(planned("eth*, x1")), ["plug net1"]);
    assert_eq!(changes(planned("eth*, net?")), [""; 0]);
    planned("net1,").assert_error(Kind::Invalid, "patchbay/watch-exclude");
}

/// The host's own links are for no machine.
#[test]
fn watch_of_the_hosts_namespace_is_refused() {
    let guest = Guest::start(Machine::Q35);
    let own = Netns::of_process(std::process::id());
    let mut file = guest.registered();
    file["netns"] = json!(own.name());
    std::fs::write(guest.file("sandbox.json"), file.to_string()).unwrap();
    let refused = once(&guest, &["--dry-run"]);
    refused.assert_error(
        Kind::Unsupported,
        "it is in the network namespace of the host",
    );
    // Without an ID it is skipped.
    let all = guest.patchbay(&["watch", "--once", "--dry-run"]);
    assert_eq!(changes(all), [""; 0]);
}
