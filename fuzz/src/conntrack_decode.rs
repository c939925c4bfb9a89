//! Flows: one that a filter means agrees with it, and the request that deletes it is whole.

use patchbay_agent::conntrack::{delete, matching};
use patchbay_agent::fuzz::Script;
use patchbay_protocols::conntrack::{Filter, parse};

/// The payload of one answer, by several filters.
pub fn run(data: &[u8]) {
    thread_local!(static FILTERS: Vec<Filter> = filters());
    FILTERS.with(|filters| {
        for filter in filters {
            let Ok(flows) = matching(&mut Script::Payload(data), filter) else {
                continue;
            };
            assert!(flows.iter().all(|tracked| filter.matches(&tracked.flow)));
            let deleted = delete(&mut Script::Payload(&[]), &flows);
            assert!(deleted.is_ok_and(|deleted| deleted == flows.len()));
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
