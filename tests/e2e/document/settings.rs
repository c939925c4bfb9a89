//! Settings of cards that documents don't have.

use patchbay_tests::{Guest, Machine};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::super::native::native;
use super::{apply, export};

/// Qdisc at the root of the TAP, without the kernel's default.
fn limit(guest: &Guest) -> Value {
    let shown = guest.netns().exec("tc -j qdisc show dev tap1").json();
    let qdiscs = shown.as_array().unwrap().iter();
    let mut limits = qdiscs.filter(|qdisc| qdisc["kind"] == "tbf");
    limits.next().cloned().unwrap_or_default()
}

#[test]
fn document_that_replaces_a_card_keeps_its_settings_also_when_undone() {
    let guest = Guest::start(Machine::Q35);
    guest
        .netns()
        .ip("tuntap add tap1 mode tap multi_queue")
        .ok();
    native(&guest, "nic add ID eth1 --tap tap1 --ip 10.0.0.2/24").ok();
    native(
        &guest,
        "nic set ID --name eth1 --cable down --rx-limit 20mbit",
    )
    .ok();
    native(&guest, "nic set ID --name eth1 --rename wan0").ok();
    let before = limit(&guest);
    assert_eq!(before["options"]["rate"], 2_500_000, "{before}");
    let replaced = export(&guest).replace("name: eth1\n", "name: eth1\n    queues: 2\n");
    let kept = |name: &str, queues: u64| {
        assert_eq!(limit(&guest), before);
        let shown = native(&guest, "nic show ID eth1").json();
        let settings = ["cable", "rxLimit", "queues"].map(|key| &shown[key]);
        assert_eq!(json!(settings), json!(["down", 20_000_000, queues]));
        assert_eq!(guest.addresses(name), ["10.0.0.2/24"]);
    };
    // The guest refuses the gateway after the card was replaced.
    let refused =
        format!("{replaced}routes:\n  - {{dest: 10.9.0.0/16, gateway: 10.8.0.1, device: eth1}}\n");
    let refused = refused.replace("routes: []\n", "");
    let failed = apply(&guest, &refused);
    failed.assert_error(Kind::Kernel, "10.9.0.0/16");
    assert!(
        failed.err.contains("the changes before it were undone"),
        "{failed}"
    );
    kept("wan0", 1);
    apply(&guest, &replaced).ok();
    // It has the name that the document has.
    kept("eth1", 2);
}
