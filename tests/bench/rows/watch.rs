//! `patchbay watch`: time from a link that appears in the namespace of a machine to its usable card.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use patchbay_tests::{Machine, Netns, patchbay};

use super::kubernetes::{compared, row};
use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Row};
use crate::stats::Samples;

/// Link of the command that is compared, which the service leaves alone.
const OWN: &str = "own1";

/// Running service, whose output is a line for each change that it has made.
struct Service {
    child: Child,
    changes: BufReader<ChildStdout>,
}

impl Service {
    fn start(bed: &Bed) -> Self {
        let words = ["watch", bed.0.id(), "--exclude", OWN, "--format", "json"];
        let mut command = patchbay(bed.0.run_dir(), &words);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let changes = BufReader::new(child.stdout.take().unwrap());
        Self { child, changes }
    }

    /// Waits for a change.
    fn await_change(&mut self, action: &str) {
        let mut line = String::new();
        self.changes.read_line(&mut line).unwrap();
        assert!(line.contains(action), "{action}: {line}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures the row.
pub(crate) fn measure(plan: Plan) -> Row {
    let bed = Bed::start(Machine::Q35, &[]);
    let netns = bed.0.netns();
    add_link(netns, OWN, "10.1.0.2/24");
    let mut service = Service::start(&bed);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    // The first card loads the driver in the guest.
    for turn in 0..=plan.repeats {
        let took = appearance(netns, &mut service);
        let command = bed.ours(&["nic", "add", bed.0.id(), "--link", OWN], None);
        bed.ours(&["nic", "del", bed.0.id(), "--name", OWN], None);
        if turn > 0 {
            ours.push(took);
            peer.push(command);
        }
    }
    eprintln!("bench: watch");
    let with = "nic add --link";
    let peer = compared(with, Samples::new(peer), Bound::Within(2.0));
    row(
        "link that appears, until watch has given it a card",
        ours,
        peer,
    )
}

fn appearance(netns: &Netns, service: &mut Service) -> Duration {
    let start = Instant::now();
    add_link(netns, "net1", "10.2.0.2/24");
    service.await_change(r#""plug""#);
    let took = start.elapsed();
    netns.ip("link del net1").ok();
    service.await_change("unplug");
    took
}

/// Adds a link with an address by three processes, as container engines do.
fn add_link(netns: &Netns, name: &str, address: &str) {
    netns
        .ip(&format!("link add {name} type veth peer {name}-peer"))
        .ok();
    netns.ip(&format!("addr add {address} dev {name}")).ok();
    netns.ip(&format!("link set {name} up")).ok();
}
