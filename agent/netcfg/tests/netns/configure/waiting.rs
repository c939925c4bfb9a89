//! Waiting for a card.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use patchbay_netcfg::cancellation::Cancellation;
use patchbay_types::LinkFields;
use patchbay_types::failure::Kind;

use super::{Guest, fields, own, plug, spec};
use crate::harness::{address, ip};

#[test]
fn configure_missing_card_times_out() {
    let guest = Guest::without_card();
    let start = Instant::now();
    let failure = guest
        .configure(&spec(fields()), Duration::from_millis(300))
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::NotYet);
    assert!(failure.to_string().contains("01.0/00"), "{failure}");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn configure_waits_for_card() {
    let guest = Guest::without_card();
    let sysfs = guest.sysfs.path().to_owned();
    let plugger = thread::spawn(move || {
        // Events of other links.
        for number in 0..20 {
            ip(&format!("link add br{number} type bridge"));
        }
        plug(&sysfs);
    });
    let interface = guest
        .configure(&spec(fields()), Duration::from_secs(20))
        .unwrap();
    plugger.join().unwrap();
    assert_eq!(interface.name.to_string(), "eth-test");
}

/// Waits until `count` requests wait for a card. Each has a socket that listens to links and IPv6
/// addresses.
fn wait_for_listeners(count: usize) {
    let listeners = || {
        let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        sockets.matches(" 00000101 ").count()
    };
    while listeners() != count {
        thread::yield_now();
    }
}

/// The first request is from a host command that was killed.
#[test]
fn configure_superseded_by_later_request_fails() {
    let guest = Guest::without_card();
    let old = LinkFields {
        addresses: vec![address("172.16.0.9/16")],
        ..fields()
    };
    let wait = Duration::from_secs(20);
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| guest.configure(&spec(old), wait));
        wait_for_listeners(1);
        let second = scope.spawn(|| guest.configure(&spec(fields()), wait));
        wait_for_listeners(2);
        plug(guest.sysfs.path());
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.unwrap_err().kind(), Kind::NotYet);
    assert_eq!(second.unwrap().addresses, own(&fields().addresses));
    assert!(!ip("addr show eth-test").contains("172.16.0.9"));
}

#[test]
fn configure_cancelled_while_it_waits_for_card_ends() {
    let mut guest = Guest::without_card();
    let cancellation = Cancellation::default();
    guest.netcfg = guest.netcfg.with_cancellation(&cancellation);
    let wait = Duration::from_secs(60);
    let failure = thread::scope(|scope| {
        let configured = scope.spawn(|| guest.configure(&spec(fields()), wait));
        wait_for_listeners(1);
        cancellation.request();
        configured.join().unwrap().unwrap_err()
    });
    // Without the cancellation the card is missing at the deadline.
    assert_eq!(failure.errno(), Some(Errno::ECANCELED as i32), "{failure}");
}
