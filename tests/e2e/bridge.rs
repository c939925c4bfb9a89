//! TAPs in a bridge: the neighbours of a new card find it at once.

use std::time::{Duration, Instant};

use patchbay_tests::{Card, Guest, Machine, linux_6_12};
use serde_json::Value;

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
