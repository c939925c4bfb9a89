//! Documents, and requests, with names of cards that were renamed.

use patchbay_tests::{Guest, Machine};
use patchbay_types::failure::Kind;

use super::{WHOLE, apply, export, state};

/// The kernel gives the name of a renamed card to another one when the guest restarts.
#[test]
fn document_has_the_plugged_name_of_a_renamed_card() {
    let guest = Guest::start(Machine::Q35);
    apply(&guest, WHOLE).ok();
    let rename = [
        "nic",
        "set",
        guest.id(),
        "--name",
        "eth1",
        "--rename",
        "lan1",
    ];
    guest.patchbay(&rename).ok();
    let exported = export(&guest);
    assert!(!exported.contains("lan1"), "{exported}");
    assert_eq!(apply(&guest, &exported).ok(), "");
    let before = state(&guest);
    assert!(
        before.contains("default via 172.16.1.1 dev lan1"),
        "{before}"
    );
    guest.reset();
    guest
        .patchbay(&["nic", "apply", guest.id(), "--name", "eth1"])
        .ok();
    guest.shell("ip link set eth0 name eth1 || true").ok();
    apply(&guest, &exported).ok();
    assert_eq!(state(&guest), before);
    assert_eq!(export(&guest), exported);
}

#[test]
fn device_with_the_names_of_two_cards_is_refused() {
    let guest = Guest::start(Machine::Q35);
    apply(&guest, WHOLE).ok();
    let id = guest.id();
    guest
        .patchbay(&["nic", "set", id, "--name", "eth1", "--rename", "lan1"])
        .ok();
    guest
        .shell("ip link set eth2 down && ip link set eth2 name eth1 && ip link set eth1 up")
        .ok();
    let before = state(&guest);
    for words in [
        &["route", "add", id, "--dest", "10.7.0.0/16", "--dev", "eth1"][..],
        &[
            "neighbor",
            "add",
            id,
            "--address",
            "172.16.1.7",
            "--dev",
            "eth1",
            "--lladdr",
            "02:00:00:00:00:07",
        ],
    ] {
        let refused = guest.patchbay(words);
        refused.assert_error(Kind::Invalid, "device 'eth1' is ambiguous");
    }
    assert_eq!(state(&guest), before);
}
