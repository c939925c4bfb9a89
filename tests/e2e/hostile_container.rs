//! A process in the guest floods the agent's port while the host runs commands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Guest, Machine};

const REQUESTS: usize = 30;
/// Minimum rounds of the flood, which lasts until the last request is answered.
const ROUNDS: usize = 4;

/// Runs requests of the host; returns their durations, sorted.
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

/// Flood and agent share the processor, so the durations show the agent's behaviour alone.
#[test]
fn container_flood_one_cpu_host_is_served() {
    flood_and_measure("1");
}

/// QEMU emulates both processors in one thread, so the durations include waits for the flood's turn.
#[test]
fn container_flood_two_cpus_host_is_served() {
    flood_and_measure("2");
}

fn flood_and_measure(cpus: &str) {
    let guest = Guest::start_with(Machine::Q35, &["--cpus", cpus]);
    guest.shell(
        "for module in $(find /lib/modules -name 'vsock_loopback.ko*'); do insmod $module; done",
    );
    // CID 1 is the loopback, open to every process of the guest.
    let once = hammer(&guest, 1, 1);
    assert_eq!(
        once, "connected 1 refused 0 bytes 0\n",
        "the loopback of vsock"
    );
    let quiet = requests(&guest);
    let over = AtomicBool::new(false);
    let flooded = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut rounds = 0..ROUNDS;
            while rounds.next().is_some() || !over.load(Ordering::Relaxed) {
                let output = hammer(&guest, 1, 2000);
                assert!(output.ends_with(" bytes 0\n"), "{output}");
                eprintln!("{}", output.trim());
            }
        });
        let flooded = requests(&guest);
        over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        flooded
    });
    let (quiet, flooded) = (quiet[REQUESTS / 2], flooded[REQUESTS / 2]);
    eprintln!(
        "median of a request, {cpus} processors: quiet {quiet:?}, under the flood {flooded:?}, {:.1} times",
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
