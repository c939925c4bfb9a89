//! Cancellation of changes: they stop and are undone.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_netcfg::cancellation::Cancellation;
use patchbay_netcfg::ops::{Error, Netcfg};
use patchbay_netlink::{Rtnetlink, Socket};
use patchbay_types::failure::Failure;
use patchbay_types::{
    AddressDetail, DadPolicy, Neighbor, NeighborPattern, RoutePattern, RouteSpec,
};

use crate::harness::{addresses_text, change, ip, ip_batch};
use crate::routes::{pattern, sorted_routes, spec, with_addresses};

/// Groups of rtnetlink's events: neighbors, IPv4 routes, IPv6 addresses.
const NEIGHBORS: u32 = 0x004;
const IPV4_ROUTES: u32 = 0x040;
const IPV6_ADDRESSES: u32 = 0x100;

/// Runs a change, cancels it at the first event of a group, and asserts that it was cancelled.
fn assert_cancelled<T: Send>(
    netcfg: &Netcfg,
    group: u32,
    work: impl FnOnce(&Netcfg) -> Result<T, Error> + Send,
) {
    let cancellation = Cancellation::default();
    let netcfg = netcfg.clone().with_cancellation(&cancellation);
    let events = Socket::<Rtnetlink>::listen(group).unwrap();
    let result = thread::scope(|scope| {
        let work = scope.spawn(move || work(&netcfg).map(drop));
        let mut ready = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(Duration::from_secs(60)).unwrap();
        assert_eq!(poll(&mut ready, timeout), Ok(1));
        cancellation.request();
        work.join().unwrap()
    });
    let failure = Failure::from(result.unwrap_err());
    assert_eq!(failure.errno(), Some(Errno::ECANCELED as i32), "{failure}");
    // A failed rollback would be a cause.
    assert_eq!(failure.chain().next(), None, "{failure}");
}

/// Enough for many pieces after the first event.
const MANY: u32 = 20_000;

fn dest(net: u8, number: u32) -> String {
    format!("{net}.{}.{}.0/24", number / 250, number % 250)
}

/// Routes to networks in 20.0.0.0/8 and the like; every second one has a gateway.
fn routes(net: u8) -> Vec<RouteSpec> {
    let route = |number| match number % 2 {
        0 => spec(&dest(net, number), "172.16.0.1", "eth1"),
        _ => spec(&dest(net, number), "", "eth2"),
    };
    (0..MANY).map(route).collect()
}

/// Adds the same routes with iproute2.
fn add_routes(net: u8) {
    let line = |number| match number % 2 {
        0 => format!("route add {} via 172.16.0.1 dev eth1\n", dest(net, number)),
        _ => format!("route add {} dev eth2\n", dest(net, number)),
    };
    ip_batch(&(0..MANY).map(line).collect::<String>());
}

#[test]
fn change_of_routes_cancelled_is_undone() {
    let netcfg = with_addresses();
    add_routes(20);
    let before = sorted_routes();
    let patterns: Vec<RoutePattern> = (0..MANY).map(|n| pattern(&dest(20, n))).collect();
    assert_cancelled(&netcfg, IPV4_ROUTES, |netcfg| {
        netcfg.add_routes(&routes(21))
    });
    assert_eq!(sorted_routes(), before);
    assert_cancelled(&netcfg, IPV4_ROUTES, |netcfg| {
        netcfg.delete_routes(&patterns)
    });
    assert_eq!(sorted_routes(), before);
    assert_cancelled(&netcfg, IPV4_ROUTES, |netcfg| {
        netcfg.replace_routes(&routes(21))
    });
    assert_eq!(sorted_routes(), before);
    // The cancellation is that of the other handle.
    netcfg.replace_routes(&[]).unwrap();
}

#[test]
fn change_of_neighbors_cancelled_is_undone() {
    let netcfg = with_addresses();
    let neighbor = |number: u32| Neighbor {
        ip: format!("172.16.{}.{}", 1 + number / 250, 1 + number % 250)
            .parse::<std::net::IpAddr>()
            .unwrap()
            .try_into()
            .unwrap(),
        lladdr: [2, 0, 0, 0, 0, 1].into(),
        device: "eth1".parse().unwrap(),
    };
    // The kernel's limit of a table is 1024 in all namespaces; permanent entries don't count.
    let neighbors: Vec<Neighbor> = (0..8_000).map(neighbor).collect();
    let shown = || ip("neigh show nud permanent");
    let empty = shown();
    assert_cancelled(&netcfg, NEIGHBORS, |netcfg| {
        netcfg.add_neighbors(&neighbors)
    });
    assert_eq!(shown(), empty);
    netcfg.add_neighbors(&neighbors).unwrap();
    let patterns = neighbors.iter().map(|added| NeighborPattern {
        ip: added.ip,
        lladdr: None,
        device: None,
    });
    let patterns: Vec<_> = patterns.collect();
    let sorted = || {
        let mut lines: Vec<_> = shown().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = sorted();
    assert_cancelled(&netcfg, NEIGHBORS, |netcfg| {
        netcfg.delete_neighbors(&patterns)
    });
    assert_eq!(sorted(), before);
}

/// The addresses are there while duplicate address detection runs, and the old ones too.
#[test]
fn update_cancelled_during_duplicate_detection_is_undone() {
    let netcfg = with_addresses();
    let change = change("eth1", &["172.16.0.4/16", "fd00::4/64"], Some(1400));
    let before = (addresses_text(), sorted_routes(), ip("link show eth1"));
    let change = change.with_dad(DadPolicy::Detect);
    assert_cancelled(&netcfg, IPV6_ADDRESSES, |netcfg| {
        netcfg.update(&change, AddressDetail::Omitted)
    });
    let after = (addresses_text(), sorted_routes(), ip("link show eth1"));
    assert_eq!(after, before);
}
