//! `make bench`: speed and size of patchbay compared with its peers and with the floor, the least that
//! kernel and transport need. docs/performance.md describes each row.
//!
//! Arguments choose parts: `rules large tables updates cards documents kubernetes wire watch agents sizes`; all by default.

#![allow(clippy::unwrap_used)]

mod bed;
mod plan;
mod plot;
mod report;
mod row;
mod rows;
mod rules;
mod sizes;
mod stats;

use std::path::Path;
use std::time::Instant;

use patchbay_tests::temp_dir;
use plan::Plan;

/// Environment variable that makes the run short.
const QUICK: &str = "QUICK";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench");

fn main() {
    let start = Instant::now();
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    let plan = match std::env::var(QUICK) {
        Ok(text) if !text.is_empty() => Plan::QUICK,
        _ => Plan::FULL,
    };
    let files = temp_dir();
    let mut all = Vec::new();
    if wants("rules") || wants("large") {
        let (rows, from) = rows::rules::measure(plan, files.path());
        all.extend(rows);
        if wants("large") {
            all.push(rows::large::measure(plan, files.path(), &from));
        }
    }
    if wants("tables") {
        all.extend(rows::tables::measure(plan, files.path()));
    }
    if wants("updates") {
        all.extend(rows::updates::measure(plan, files.path()));
    }
    if wants("cards") {
        all.extend(rows::cards::measure(plan, files.path()));
    }
    if wants("documents") {
        all.extend(rows::documents::measure(plan, files.path()));
    }
    if wants("agents") {
        all.push(rows::agents::measure(plan));
    }
    let mut sizes = Vec::new();
    if wants("kubernetes") {
        let (rows, memory) = rows::kubernetes::measure(plan, files.path());
        all.extend(rows);
        sizes.push(memory);
    }
    if wants("wire") {
        all.extend(rows::wire::measure(plan));
    }
    if wants("watch") {
        all.push(rows::watch::measure(plan));
    }
    if wants("sizes") {
        sizes.extend(sizes::measure(plan, files.path()));
    }
    let notes = notes(plan, start);
    let report = report::render(&all, &sizes, &notes);
    let folder = Path::new(FOLDER);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("report.md"), &report).unwrap();
    if !all.is_empty() {
        plot::draw(&folder.join("report.svg"), &all).unwrap();
    }
    println!("{report}");
}

fn notes(plan: Plan, start: Instant) -> Vec<String> {
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    vec![format!(
        "{} rounds, {minutes:.1} minutes, guests with 2 vCPUs and Linux 6.1 where no other \
             is named. Ratios are of medians. A row that falls short says so.",
        plan.rounds
    )]
}
