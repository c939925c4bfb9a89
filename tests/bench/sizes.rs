//! Sizes of the programs on disk and in memory, and their CPU time.

use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use patchbay_tests::{AGENT_PID, Guest, Machine, bin, patchbay};

use crate::bed::{Bed, timed};
use crate::plan::Plan;
use crate::row::Size;
use crate::rules::{RuleFile, one_percent_changed, rules};

/// Allowed growth in MiB from the first fifth of the restores to the last: one step of the allocator,
/// less than a page per restore.
const SLACK: f64 = 0.3;

const MIB: f64 = 1024.0 * 1024.0;

/// Measures the table of sizes.
pub(crate) fn measure(plan: Plan, folder: &Path) -> Vec<Size> {
    let mib = |what: &str, value, limit| Size {
        what: what.to_owned(),
        value,
        limit,
        unit: "MiB",
    };
    let agent = bin("patchbay-agent");
    let targets = agent.ancestors().nth(3).unwrap();
    let of_arm64 = targets.join("aarch64-unknown-linux-gnu/release/patchbay-agent");
    let mut sizes = vec![
        mib("agent on disk", on_disk(&agent), 2.5),
        mib("agent for arm64 on disk", on_disk(&of_arm64), 2.5),
    ];
    let text = rules(20_000, 16);
    let changed = one_percent_changed(&text);
    let files = [
        RuleFile::new(folder, "size-0", text),
        RuleFile::new(folder, "size-1", changed),
    ];
    // Not a `Bed`, so that the agent has served no request yet.
    let guest = Guest::start(Machine::Q35);
    sizes.push(mib("agent resident, idle", resident(&guest, "VmRSS"), 3.0));
    drop(guest);
    let bed = Bed::start(Machine::Q35, &[]);
    bed.restore(&[], &files[0].path);
    let peak = resident(&bed.0, "VmHWM");
    sizes.push(mib(
        "agent resident, peak of a restore of 20,000",
        peak,
        12.0,
    ));
    let mut after = Vec::new();
    for number in 1..=plan.restores {
        bed.restore(&["--replace"], &files[number % 2].path);
        after.push(resident(&bed.0, "VmRSS"));
    }
    let peak = resident(&bed.0, "VmHWM");
    sizes.push(mib(
        "agent resident, peak of replaces of 20,000",
        peak,
        12.0,
    ));
    let fifth = (after.len() / 5).max(1);
    let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (first, last) = (
        highest(&after[..fifth]),
        highest(&after[after.len() - fifth..]),
    );
    let what = format!(
        "agent resident after {} restores, beside the first {fifth}",
        after.len()
    );
    sizes.push(mib(&what, last, first + SLACK));
    sizes.push(cpu("patchbay --version, own CPU", &bed, &["--version"]));
    let words = ["kata-network", "list-ifaces", bed.0.id()];
    sizes.push(cpu("patchbay list-ifaces, own CPU", &bed, &words));
    eprintln!("bench: sizes");
    sizes
}

/// Returns the size of a file in MiB.
fn on_disk(path: &Path) -> f64 {
    let size = std::fs::metadata(path).unwrap().len();
    #[allow(clippy::cast_precision_loss)]
    let size = size as f64;
    size / MIB
}

/// Returns the agent's memory from `/proc`, in MiB.
fn resident(guest: &Guest, what: &str) -> f64 {
    let script =
        format!("sed -n 's/^{what}:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/{AGENT_PID}/status");
    let kib: f64 = guest.shell(&script).ok().trim().parse().unwrap();
    kib / 1024.0
}

const STARTS: i64 = 50;

/// Returns the mean of many runs, since one is below the resolution of the kernel's accounting.
fn cpu(what: &str, bed: &Bed, words: &[&str]) -> Size {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    let before = used();
    for _ in 0..STARTS {
        timed(&mut patchbay(bed.0.run_dir(), words), None);
    }
    let micros = u64::try_from((used() - before) / STARTS).unwrap();
    Size {
        what: what.to_owned(),
        value: Duration::from_micros(micros).as_secs_f64() * 1e3,
        limit: 5.0,
        unit: "ms",
    }
}
