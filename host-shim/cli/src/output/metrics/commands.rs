//! Metrics of the commands that ran on this host.

use super::{Family, Samples};
use crate::durations::Durations;

/// Returns the histogram of their durations.
pub(super) fn family(durations: &[Durations]) -> Family {
    let samples = durations.iter().map(|durations| {
        let labels = vec![
            ("command", durations.command.clone()),
            ("result", durations.result.name().to_owned()),
        ];
        (labels, durations.clone())
    });
    Family {
        name: "command_duration_seconds",
        help: "Durations of the commands of this host since its start.",
        samples: Samples::Histogram(samples.collect()),
    }
}
