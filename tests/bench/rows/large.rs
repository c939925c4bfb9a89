//! Growth of the time with ten times the rules.

use std::path::Path;

use patchbay_tests::Machine;

use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::rules::{RuleFile, rules};
use crate::stats::Samples;

const COUNT: u32 = 200_000;
const IN_GUEST: &str = "/tmp/rules";
/// Memory of the guest for the kernel's tables.
const MEMORY: &[&str] = &["--memory", "1024"];

/// Measures the row. `from` has the times of patchbay and of the floor for a tenth of the rules.
pub(crate) fn measure(plan: Plan, folder: &Path, from: &[Samples; 2]) -> Row {
    let file = RuleFile::new(folder, "large", rules(COUNT, 16));
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..plan.large_rounds {
        let bed = Bed::start(Machine::Q35, MEMORY);
        let most = COUNT.to_string();
        ours.push(bed.restore(&["--max-rules", &most], &file.path));
        drop(bed);
        let bed = Bed::start(Machine::Q35, MEMORY);
        bed.0.write_file(IN_GUEST, &file.text);
        let kernel = bed.floor(&format!("ipvs-fill {IN_GUEST}"));
        floor.push(kernel + bed.moved("send", file.packed[0]));
        eprintln!("bench: 200,000 rules");
    }
    let (ours, floor) = (Samples::new(ours), Samples::new(floor));
    let growth = floor.median() / from[1].median();
    Row {
        work: "restore 200,000 rules",
        ours,
        peer: Some(Comparison {
            with: "our 20,000, grown as the floor grew",
            took: from[0].times(growth),
            bound: Bound::Within(1.0),
        }),
        floor: Some(Comparison {
            with: "kernel + transport",
            took: floor,
            bound: Bound::Within(1.6),
        }),
    }
}
