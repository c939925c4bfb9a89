//! Metrics of conntrack in guests.

use patchbay_host::ops::{ConntrackFill, Scrape};

use super::{Family, of_sandbox};

/// Returns the metrics; a value that is not known is missing.
pub(super) fn families(scrapes: &[Scrape]) -> [Family; 2] {
    let of_each = |value: fn(&ConntrackFill) -> Option<u32>| {
        scrapes.iter().filter_map(move |scrape| {
            let value = value(&scrape.conntrack)?;
            Some((of_sandbox(scrape), f64::from(value)))
        })
    };
    [
        Family::gauge(
            "conntrack_flows",
            "Number of flows that conntrack tracks in the guest.",
            of_each(|fill| fill.flows),
        ),
        Family::gauge(
            "conntrack_limit",
            "Maximum number of these flows, 0 without a limit.",
            of_each(|fill| fill.limit),
        ),
    ]
}
