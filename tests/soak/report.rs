//! The table of samples and the verdict on each column.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::gauge::{COLUMNS, Gauge};

/// Allowed growth of each column between the first tenth and the end: none for counts, some for memory.
const SLACK: [Slack; COLUMNS.len()] = [
    Slack::None,
    Slack::Percent(10),
    Slack::Percent(10),
    Slack::Percent(10),
    Slack::None,
    Slack::Threads,
    Slack::Percent(10),
    Slack::Free,
];

#[derive(Debug, Clone, Copy)]
enum Slack {
    None,
    Percent(u64),
    /// Idle threads exit after a second.
    Threads,
    /// Not checked: free memory only decreases if the slab column grows.
    Free,
}

/// Rounds of one kind.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) planned: usize,
    pub(crate) took: Duration,
    /// Number of rounds before each sample.
    pub(crate) samples: Vec<(usize, Gauge)>,
}

/// Report of all parts.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Part>);

impl Part {
    fn done(&self) -> usize {
        self.samples.last().map_or(0, |(rounds, _)| *rounds)
    }

    /// Returns the columns that grew more than allowed.
    fn grown(&self) -> Vec<&'static str> {
        let [_, first_tenth, .., last] = &self.samples[..] else {
            return Vec::new();
        };
        let grows = |column: usize| {
            let (from, to) = (first_tenth.1.values()[column], last.1.values()[column]);
            match SLACK[column] {
                Slack::None => to > from,
                Slack::Percent(percent) => to > from + from * percent / 100,
                Slack::Threads => to > from + 2,
                Slack::Free => false,
            }
        };
        let columns = (0..COLUMNS.len()).filter(|column| grows(*column));
        columns.map(|column| COLUMNS[column]).collect()
    }
}

impl Report {
    pub(crate) fn add(&mut self, part: Part) {
        self.0.push(part);
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.0 {
            let _ = writeln!(
                text,
                "## {}: {} of {} rounds in {} s\n\n| rounds | {} |\n|{}",
                part.name,
                part.done(),
                part.planned,
                part.took.as_secs(),
                COLUMNS.join(" | "),
                "---:|".repeat(COLUMNS.len() + 1),
            );
            for (rounds, gauge) in &part.samples {
                let values: Vec<String> = gauge.values().iter().map(u64::to_string).collect();
                let _ = writeln!(text, "| {rounds} | {} |", values.join(" | "));
            }
            let grown = part.grown();
            let verdict = if grown.is_empty() {
                "Flat.".to_owned()
            } else {
                format!("GROWN: {}.", grown.join(", "))
            };
            let _ = writeln!(text, "\n{verdict}\n");
        }
        text
    }

    pub(crate) fn verdict(&self) -> ExitCode {
        let complete = |part: &Part| part.done() == part.planned && part.grown().is_empty();
        if self.0.iter().all(complete) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
