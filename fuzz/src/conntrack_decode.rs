//! Flows: whatever the kernel lists, deleting what a filter means ends, and counts no more than that.

use patchbay_agent::conntrack::delete;
use patchbay_agent::fuzz::Script;
use patchbay_protocols::conntrack::{Filter, parse};

/// The payload of one answer, by several filters.
pub fn run(data: &[u8]) {
    thread_local!(static FILTERS: Vec<Filter> = filters());
    FILTERS.with(|filters| {
        for filter in filters {
            if let Ok(deleted) = delete(&mut Script::Payload(data), filter) {
                assert!(deleted <= 1, "one answer holds one flow");
            }
        }
    });
}

fn filters() -> Vec<Filter> {
    let lines: [&[&str]; 5] = [
        &["-f", "ipv4"],
        &["-f", "ipv6"],
        &["-d", "10.0.0.1"],
        &["-p", "tcp", "--sport", "1000"],
        &["-m", "0/0xff"],
    ];
    let read = |line: &&[&str]| parse(line).expect("a filter");
    lines.iter().map(read).collect()
}
