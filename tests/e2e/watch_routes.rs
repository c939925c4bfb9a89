//! Default routes of several links: a guest has that of one card, judged by iproute2 in the guest.

use std::cell::RefCell;

use patchbay_tests::{Guest, Machine, patchbay, rng};
use serde_json::Value;

use super::kill_anywhere::sweep;
use super::watch::{changes, in_netns, once};

/// Adds a link with the address `10.N.0.2`; the other end is up.
fn add_link(guest: &Guest, number: u8) {
    let commands = [
        format!("link add net{number} type veth peer peer{number}"),
        format!("addr add 10.{number}.0.2/24 dev net{number}"),
        format!("link set net{number} up"),
        format!("link set peer{number} up"),
    ];
    in_netns(guest, &commands.each_ref().map(String::as_str));
}

/// Runs `ip route WORDS default` with the gateway behind a link.
fn route(guest: &Guest, words: &str, number: u8, metric: u32) {
    let route =
        format!("route {words} default via 10.{number}.0.1 dev net{number} metric {metric}");
    in_netns(guest, &[&route]);
}

/// Returns the devices of the default routes of the guest.
fn default_devices(guest: &Guest) -> Vec<String> {
    let shown = guest.ip("route show default");
    let routes = shown.as_array().unwrap().iter();
    let device = |route: &Value| route["dev"].as_str().unwrap().to_owned();
    routes.map(device).collect()
}

fn watched(guest: &Guest) -> Vec<String> {
    changes(once(guest, &["--exclude", "peer*"]))
}

/// The guest has the default route of one link, and then that of the other.
#[test]
fn watch_once_default_route_of_card_that_goes_is_that_of_another() {
    let guest = Guest::start(Machine::Q35);
    for number in [1, 2] {
        add_link(&guest, number);
        route(&guest, "add", number, u32::from(number));
        assert_eq!(watched(&guest), [format!("plug net{number}")]);
        assert_eq!(default_devices(&guest), ["net1"]);
    }
    in_netns(&guest, &["link del net1"]);
    assert_eq!(watched(&guest), ["unplug net1", "update net2"]);
    assert_eq!(default_devices(&guest), ["net2"]);
    // As Docker does for a network that is connected, and for one that is disconnected.
    add_link(&guest, 1);
    assert_eq!(watched(&guest), ["plug net1"]);
    for (from, to) in [(2, 1), (1, 2)] {
        route(&guest, "del", from, 2);
        route(&guest, "add", to, 2);
        watched(&guest);
        assert_eq!(default_devices(&guest), [format!("net{to}")]);
        assert_eq!(watched(&guest), [""; 0]);
    }
    route(&guest, "del", 2, 2);
    route(&guest, "add", 1, 2);
    in_netns(&guest, &["link del net2"]);
    assert_eq!(watched(&guest), ["unplug net2", "update net1"]);
    assert_eq!(default_devices(&guest), ["net1"]);
}

/// Kills `watch --once` at its steps. The run after it gives the guest the default route of `device`.
fn sweep_until_default_route_is(guest: &Guest, device: &str, prepare: impl Fn()) {
    let words = ["watch", "--once", guest.id(), "--exclude", "peer*"];
    let command = patchbay(guest.run_dir(), &words);
    let converge = || {
        watched(guest);
        assert_eq!(default_devices(guest), [device]);
        assert_eq!(watched(guest), [""; 0]);
    };
    sweep(&RefCell::new(rng()), &[(&command, "")], prepare, converge);
}

/// The card that gets the route comes before the one that loses it.
#[test]
fn watch_once_killed_while_default_route_moves_is_completed_by_the_next() {
    let guest = Guest::start(Machine::Q35);
    for number in [1, 2] {
        add_link(&guest, number);
    }
    watched(&guest);
    sweep_until_default_route_is(&guest, "net1", || {
        drop(guest.netns().ip("route del default"));
        route(&guest, "add", 2, 0);
        watched(&guest);
        assert_eq!(default_devices(&guest), ["net2"]);
        route(&guest, "replace", 1, 0);
    });
}

#[test]
fn watch_once_killed_while_card_with_default_route_goes_is_completed_by_the_next() {
    let guest = Guest::start(Machine::Q35);
    add_link(&guest, 2);
    sweep_until_default_route_is(&guest, "net2", || {
        drop(guest.netns().ip("route del default dev net2"));
        if !guest.netns().links().contains(&"net1".to_owned()) {
            add_link(&guest, 1);
        }
        drop(guest.netns().ip("route del default dev net1"));
        route(&guest, "add", 1, 0);
        watched(&guest);
        // The guest keeps that of net1.
        route(&guest, "add", 2, 1);
        assert_eq!(watched(&guest), ["update net2"]);
        in_netns(&guest, &["link del net1"]);
    });
}
