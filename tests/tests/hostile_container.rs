//! A process of the guest at the agent's port, while the host works.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Guest, Machine};

const REQUESTS: usize = 30;

/// How long each of some requests of the host took; all were answered.
fn requests(guest: &Guest) -> Vec<Duration> {
    let request = |_| {
        let begun = Instant::now();
        guest.kata_network("list-routes", "").ok();
        begun.elapsed()
    };
    let mut took: Vec<Duration> = (0..REQUESTS).map(request).collect();
    took.sort();
    took
}

fn hammer(guest: &Guest, cid: u32, connections: u32) -> String {
    guest
        .exec(&format!("patchbay-hammer {cid} 1061 {connections}"))
        .ok()
}

#[test]
fn a_container_gets_nothing_and_the_host_is_served() {
    // One processor, which the flood and the agent share. With two, QEMU's emulation in one thread
    // lets the agent's wait for its turn while the flood's spins, and that is what would be measured.
    let guest = Guest::start_with(Machine::Q35, &["--cpus", "1"]);
    guest.shell(
        "for module in $(find /lib/modules -name 'vsock_loopback.ko*'); do insmod $module; done",
    );
    // CID 1 is the loopback, where every process of the guest can connect.
    let once = hammer(&guest, 1, 1);
    assert_eq!(
        once, "connected 1 refused 0 bytes 0\n",
        "the loopback of vsock"
    );
    let quiet = requests(&guest);
    let over = AtomicBool::new(false);
    let flooded = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let told = hammer(&guest, 1, 1000);
                assert!(told.ends_with(" bytes 0\n"), "{told}");
                eprintln!("{}", told.trim());
            }
        });
        let flooded = requests(&guest);
        over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        flooded
    });
    let (quiet, flooded) = (quiet[REQUESTS / 2], flooded[REQUESTS / 2]);
    eprintln!(
        "median of a request: quiet {quiet:?}, under the flood {flooded:?}, {:.1} times",
        flooded.as_secs_f64() / quiet.as_secs_f64()
    );
    let console = guest.sandbox(&["console", guest.id()]).ok();
    let complaints = console
        .lines()
        .filter(|line| line.contains("connection refused"));
    let complaints = complaints.count();
    assert!(
        (1..200).contains(&complaints),
        "{complaints} lines of the log"
    );
}
