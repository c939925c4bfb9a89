//! Events of links, addresses and routes after changes by iproute2.

use std::ops::ControlFlow;
use std::time::Duration;

use patchbay_netcfg::ops::NetEvents;
use patchbay_types::{AddressState, Carrier, NetEvent, NetObject};

use crate::harness::{ip, ip_batch, ip_json, netcfg_in_new_netns, netcfg_with_veths};

/// Returns the events that have come; those of links without their state.
fn seen(events: &mut NetEvents) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let before = seen.len();
        let mut each = |event: &NetEvent| {
            let text = text(event);
            // The kernel makes and probes these in the background.
            if !text.contains("fe80::") && !text.contains("ff00::") {
                seen.push(text);
            }
            ControlFlow::Continue(())
        };
        events.next(Duration::from_millis(200), &mut each).unwrap();
        if seen.len() == before {
            return seen;
        }
    }
}

fn text(event: &NetEvent) -> String {
    let of = |object: &NetObject| match object {
        NetObject::Link(link) => {
            let carrier = if link.carrier == Carrier::On {
                " carrier"
            } else {
                ""
            };
            let up = if link.up { " up" } else { "" };
            format!("link {}{up}{carrier} mtu {}", link.name, link.mtu)
        }
        NetObject::Address(device, address, AddressState::Usable) => {
            format!("address {address} dev {device}")
        }
        NetObject::Address(device, address, state) => {
            format!("address {address} dev {device} {state:?}")
        }
        NetObject::Route(route) => format!("route {route}"),
    };
    match event {
        NetEvent::Changed(object) => of(object),
        NetEvent::Gone(object) => format!("gone: {}", of(object)),
        NetEvent::Lost => "lost".to_owned(),
    }
}

#[test]
fn events_name_the_changes_of_iproute2() {
    let netcfg = netcfg_with_veths();
    ip("link set eth2 addrgenmode none");
    let mut events = netcfg.events().unwrap();
    for (words, expected) in [
        (
            "addr add 10.1.0.2/24 dev eth1",
            &["address 10.1.0.2/24 dev eth1", "route 10.1.0.0/24 dev eth1"][..],
        ),
        (
            "route add 10.2.0.0/16 via 10.1.0.1 table 77",
            &["route 10.2.0.0/16 via 10.1.0.1 dev eth1 table 77"],
        ),
        (
            "route del 10.2.0.0/16 table 77",
            &["gone: route 10.2.0.0/16 via 10.1.0.1 dev eth1 table 77"],
        ),
        // Lists have unicast routes only.
        ("route add blackhole 10.3.0.0/16", &[]),
        (
            "addr add fd01::2/64 dev eth2 nodad noprefixroute",
            &["address fd01::2/64 dev eth2"],
        ),
        ("link set eth2 mtu 1400", &["link eth2 up carrier mtu 1400"]),
        ("link set eth2 mtu 1400", &[]),
        (
            "addr del fd01::2/64 dev eth2",
            &["gone: address fd01::2/64 dev eth2"],
        ),
    ] {
        ip(words);
        assert_eq!(seen(&mut events), expected, "{words}");
    }
}

/// The carrier of the other end of a veth changes in the background.
#[test]
fn events_follow_the_names_of_links() {
    let netcfg = netcfg_with_veths();
    let mut events = netcfg.events().unwrap();
    for (words, expected) in [
        ("link set eth2 down", "link eth2 mtu 1500"),
        ("link set eth2 name wan0", "link wan0 mtu 1500"),
        ("link add br0 type bridge", "link br0 mtu 1500"),
        ("link set wan0 master br0", ""),
        ("link set wan0 nomaster", ""),
        ("link del wan0", "gone: link wan0 mtu 1500"),
        // A link that appears later is known by its events.
        ("link add late0 type bridge", "link late0 mtu 1500"),
        (
            "addr add 10.9.0.1/32 dev late0",
            "address 10.9.0.1/32 dev late0",
        ),
    ] {
        ip(words);
        let found = seen(&mut events);
        let is_found = expected.is_empty() || found.iter().any(|event| event == expected);
        assert!(is_found, "{words}: {found:?}");
        // A port that leaves its bridge stays a link.
        let is_gone = found.iter().any(|event| event.starts_with("gone: link"));
        assert_eq!(is_gone, words == "link del wan0", "{words}: {found:?}");
    }
}

#[test]
fn events_that_overflow_the_socket_are_reported_as_lost() {
    let netcfg = netcfg_in_new_netns(std::path::Path::new("/sys"));
    let mut events = netcfg.events().unwrap();
    let line = |number: usize| {
        let change = if number.is_multiple_of(2) {
            "add"
        } else {
            "del"
        };
        format!("addr {change} 10.9.0.1/32 dev lo\n")
    };
    ip_batch("link add late0 type bridge\n");
    ip_batch(&(0..50_000).map(line).collect::<String>());
    ip_batch("link set late0 name later0\n");
    let found = seen(&mut events);
    assert!(found.contains(&"lost".to_owned()));
    assert!(found.len() < 10_000, "{}", found.len());
    // The names are those of now.
    assert_eq!(ip_json("link show later0")[0]["ifname"], "later0");
    ip("addr add 10.9.0.2/32 dev later0");
    assert_eq!(seen(&mut events), ["address 10.9.0.2/32 dev later0"]);
}
