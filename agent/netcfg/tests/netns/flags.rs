//! Administrative state, ARP and promiscuous mode of an interface.

use std::ops::ControlFlow;
use std::time::Duration;

use patchbay_netcfg::ops::Netcfg;
use patchbay_types::{
    AdminState, Arp, DadPolicy, LinkChange, LinkFlags, NetEvent, NetObject, Promisc,
};

use crate::harness::{
    addresses_of, addresses_text, change, ip, ip_json, main_table, netcfg_with_veths, routes_text,
    update,
};
use crate::neighbors::shown as neighbors;

const DOWN: LinkFlags = LinkFlags {
    state: Some(AdminState::Down),
    arp: None,
    promisc: None,
};
const UP: LinkFlags = LinkFlags {
    state: Some(AdminState::Up),
    arp: None,
    promisc: None,
};
const ALL: LinkFlags = LinkFlags {
    state: Some(AdminState::Down),
    arp: Some(Arp::Off),
    promisc: Some(Promisc::On),
};

/// Sets up addresses, routes and static neighbors of `eth1`.
fn with_everything() -> Netcfg {
    let netcfg = netcfg_with_veths();
    ip("link set eth1 addrgenmode none");
    update(
        &netcfg,
        &change("eth1", &["172.16.0.3/16", "fd00::3/64"], None),
    )
    .unwrap();
    for line in [
        "addr add 172.16.0.4/16 dev eth1",
        "addr add fd05::4/64 dev eth1 nodad",
        "addr add 10.9.0.3/16 brd + dev eth2",
        "route add default via 172.16.0.1",
        "route add 10.2.0.0/16 dev eth1",
        "route add 10.3.0.0/16 via 172.16.0.1 table 77",
        "route add fd01::/64 via fd00::1",
        "route add 10.8.0.0/16 dev eth2 src 172.16.0.3",
        "neigh add 172.16.0.9 lladdr 02:00:00:00:00:09 dev eth1",
        "neigh add fd00::9 lladdr 02:00:00:00:00:0a dev eth1",
    ] {
        ip(line);
    }
    netcfg
}

fn flags(name: &str) -> [bool; 3] {
    let link = ip_json(&format!("link show {name}"))[0].take();
    ["UP", "NOARP", "PROMISC"].map(|flag| link["flags"].as_array().unwrap().contains(&flag.into()))
}

fn set(flags: LinkFlags) -> LinkChange {
    let change = LinkChange::new("eth1".parse().unwrap(), None, None, "addresses").unwrap();
    change.with_flags(flags)
}

fn snapshot() -> String {
    let neighbors = neighbors().join("\n");
    format!(
        "{:?} {} {} {neighbors}",
        flags("eth1"),
        addresses_text(),
        routes_text("table all")
    )
}

#[test]
fn update_sets_each_flag_alone() {
    let netcfg = with_everything();
    let (addresses, routes, entries) = (addresses_text(), main_table(), neighbors());
    let flag = |arp, promisc| {
        let state = None;
        update(
            &netcfg,
            &set(LinkFlags {
                state,
                arp,
                promisc,
            }),
        )
        .unwrap();
        // The kernel removes static neighbors when ARP is set on or off.
        assert_eq!(
            (main_table(), neighbors()),
            (routes.clone(), entries.clone())
        );
        flags("eth1")
    };
    assert_eq!(flag(Some(Arp::Off), None), [true, true, false]);
    assert_eq!(flag(None, Some(Promisc::On)), [true, true, true]);
    assert_eq!(flag(Some(Arp::On), None), [true, false, true]);
    assert_eq!(flag(None, Some(Promisc::Off)), [true, false, false]);
    assert_eq!(addresses_text(), addresses);
    assert_eq!(flags("eth2"), [true, false, false]);
}

#[test]
fn update_down_keeps_addresses_and_neighbors() {
    let netcfg = with_everything();
    let (addresses, entries) = (addresses_of("eth1"), neighbors());
    update(&netcfg, &set(ALL)).unwrap();
    assert_eq!(flags("eth1"), [false, true, true]);
    assert_eq!(
        (addresses_of("eth1"), neighbors()),
        (addresses.clone(), entries.clone())
    );
    update(&netcfg, &set(ALL)).unwrap();
    // Addresses can be changed meanwhile.
    let wanted = ["172.16.0.3/16", "fd00::5/64"];
    update(&netcfg, &change("eth1", &wanted, None)).unwrap();
    update(&netcfg, &set(UP)).unwrap();
    assert_eq!(flags("eth1"), [true, true, true]);
    assert_eq!(
        addresses_of("eth1"),
        ["172.16.0.3/16", "172.16.0.4/16", "fd00::5/64", "fd05::4/64"]
    );
    assert_eq!(neighbors(), entries);
    // The kernel makes the routes to their networks again, and no others.
    let table = main_table();
    for net in ["172.16.0.0/16", "fd00::/64", "fd05::/64"] {
        assert!(
            table.contains(&format!("{net} dev eth1 proto kernel")),
            "{table}"
        );
    }
    assert!(
        !table.contains("default") && !table.contains("fd01::"),
        "{table}"
    );
}

#[test]
fn update_down_with_new_addresses_replaces_the_old_ones() {
    let netcfg = with_everything();
    let wanted = ["172.16.0.8/16", "fd00::3/48"];
    let request = change("eth1", &wanted, Some(1400)).with_dad(DadPolicy::Detect);
    // Detection begins when the link is set up.
    update(&netcfg, &request.with_flags(DOWN)).unwrap();
    assert_eq!(
        addresses_of("eth1"),
        ["172.16.0.4/16", "172.16.0.8/16", "fd00::3/48", "fd05::4/64"]
    );
    assert_eq!(ip_json("link show eth1")[0]["mtu"], 1400);
    assert_eq!(flags("eth1"), [false, false, false]);
}

#[test]
fn update_with_flags_that_fails_restores_everything() {
    for before in [UP, DOWN] {
        for wanted in [
            ALL,
            LinkFlags {
                state: Some(AdminState::Up),
                ..ALL
            },
        ] {
            let netcfg = with_everything();
            update(&netcfg, &set(before)).unwrap();
            let shown = snapshot();
            // The kernel refuses it.
            let request = change("eth1", &["172.16.0.9/16", "::1/128"], Some(1400));
            let failure = update(&netcfg, &request.with_flags(wanted)).unwrap_err();
            assert_eq!(failure.to_string(), "could not add the address ::1/128");
            assert_eq!(failure.errno(), Some(libc::EADDRNOTAVAIL));
            assert_eq!(snapshot(), shown, "{before:?} {wanted:?}");
            assert_eq!(ip_json("link show eth1")[0]["mtu"], 1500);
        }
    }
}

#[test]
fn update_down_that_fails_restores_routes_through_earlier_networks() {
    let netcfg = with_everything();
    ip("addr add 10.0.0.2/24 dev eth1");
    ip("route add 10.88.0.0/16 via 10.0.0.1");
    ip("addr del 10.0.0.2/24 dev eth1");
    let before = snapshot();
    let request = change("eth1", &["172.16.0.9/16", "::1/128"], None);
    let failure = update(&netcfg, &request.with_flags(DOWN)).unwrap_err();
    assert_eq!(failure.chain().count(), 1, "{failure:?}");
    let gateway = "10.88.0.0/16 via 10.0.0.1 dev eth1 ";
    let on_link = before.replace(gateway, &format!("{gateway}onlink "));
    assert_ne!(on_link, before);
    assert_eq!(snapshot(), on_link);
}

#[test]
fn update_rename_and_down_renames_a_link_that_is_down() {
    let netcfg = with_everything();
    let mut events = netcfg.events().unwrap();
    let request = set(DOWN).with_rename("wan0".parse().ok());
    update(&netcfg, &request).unwrap();
    let mut renamed = Vec::new();
    let mut each = |event: &NetEvent| {
        if let NetEvent::Changed(NetObject::Link(link)) = event
            && link.name.to_string() == "wan0"
        {
            renamed.push(link.up);
        }
        ControlFlow::Continue(())
    };
    events.next(Duration::ZERO, &mut each).unwrap();
    assert_eq!(renamed.first(), Some(&false), "{renamed:?}");
    assert_eq!(flags("wan0"), [false, false, false]);
}
