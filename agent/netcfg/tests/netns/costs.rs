//! Cost of changes beside many routes and addresses, in CPU time of the agent's thread and the kernel.
//! The bound is a multiple of the time for reading the same list once, which is linear.

use std::fmt::Write as _;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::harness::{addresses_of, change, ip, ip_batch, netcfg_with_veths, update};
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::{AddressDetail, LinkChange, Mtu};

const ROUTES: u32 = 16_000;
const ADDRESSES: u32 = 3_000;

/// Returns the CPU time of this thread for `work`.
fn cpu_time(work: impl FnOnce()) -> Duration {
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let before = used();
    work();
    used().saturating_sub(before)
}

/// Asserts that `work` costs at most `most` times as much as the cheapest of three runs of `linear`.
fn assert_cost(name: &str, most: u32, linear: impl Fn(), work: impl FnOnce()) {
    let linear = (0..3).map(|_| cpu_time(&linear)).min().unwrap();
    let cost = cpu_time(work);
    eprintln!("{name}: {cost:?}, reading once: {linear:?}");
    assert!(
        cost <= linear * most,
        "{name}: {cost:?}, reading once: {linear:?}"
    );
}

fn with_routes() -> Netcfg {
    let netcfg = netcfg_with_veths();
    update(
        &netcfg,
        &change("eth1", &["172.16.0.3/16", "fd00::3/64"], None),
    )
    .unwrap();
    let mut lines = String::new();
    for number in 0..ROUTES {
        let (high, low) = (number >> 8, number & 255);
        writeln!(lines, "route add 20.0.{high}.{low} via 172.16.0.1 dev eth1").unwrap();
    }
    ip_batch(&lines);
    netcfg
}

fn count(table: &str) -> usize {
    ip(table).lines().count()
}

#[test]
fn update_beside_many_routes_is_linear() {
    let netcfg = with_routes();
    let read = || drop(netcfg.routes().unwrap());
    let mtu = LinkChange::new("eth1".parse().unwrap(), None, Mtu::try_from(1400).ok(), "").unwrap();
    let most = count("route show");
    // No route depends on the MTU, so none is read.
    assert_cost("mtu", 1, read, || update(&netcfg, &mtu).unwrap());
    let wanted = change("eth1", &["172.16.0.4/16", "fd00::3/64"], None);
    assert_cost("address", 4, read, || update(&netcfg, &wanted).unwrap());
    assert_eq!(count("route show"), most);
    // The last IPv4 address takes all routes through the link with it, and they are tried again.
    let none = change("eth1", &[], None);
    assert_cost("all", 20, read, || update(&netcfg, &none).unwrap());
}

#[test]
fn update_beside_many_addresses_is_linear() {
    let netcfg = netcfg_with_veths();
    let own = ["172.16.0.3/16", "172.17.0.3/16"];
    update(&netcfg, &change("eth1", &own, None)).unwrap();
    let mut lines = String::new();
    for number in 0..ADDRESSES {
        let (high, low) = (number >> 8, number & 255);
        writeln!(lines, "addr add 172.16.1{high:02}.{low}/16 dev eth1").unwrap();
    }
    ip_batch(&lines);
    let read = || drop(netcfg.list(AddressDetail::Listed).unwrap());
    let wanted = change("eth1", &["172.16.0.4/16", "172.17.0.3/16"], Some(1400));
    assert_cost("address", 20, read, || update(&netcfg, &wanted).unwrap());
    assert_eq!(addresses_of("eth1").len(), 3_002);
}
