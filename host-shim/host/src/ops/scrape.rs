//! Everything of a sandbox that a monitoring system reads.

use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Detail, ListedService};

use super::host_side::{self, CardOnHost, GuestPart};
use super::overview::{self, CONCURRENT, Overview};
use crate::sandbox::{self, Lookup, Sandbox};

/// State of a sandbox at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// State of the machine and of the agent.
    pub overview: Overview,
    /// Cards; none of a machine that doesn't reply.
    pub cards: Vec<CardOnHost>,
    /// Virtual services with their servers and counters; none where IPVS isn't loaded.
    pub services: Vec<ListedService>,
    /// Time that it took.
    pub duration: Duration,
}

/// Reads the sandboxes whose id begins with one of these, or all without any, by id. A fault of one is
/// missing from its values, and a warning.
///
/// # Errors
/// Folders that can't be read.
pub fn scrape(lookup: &Lookup, prefixes: &[String]) -> Result<Vec<Scrape>, Failure> {
    let mut sandboxes = sandbox::all(lookup)?;
    sandboxes.retain(|sandbox| {
        let id = sandbox.id.as_str();
        prefixes.is_empty()
            || prefixes
                .iter()
                .any(|prefix| id.starts_with(prefix.as_str()))
    });
    sandboxes.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let mut scrapes = Vec::with_capacity(sandboxes.len());
    for chunk in sandboxes.chunks(CONCURRENT) {
        thread::scope(|scope| {
            let queries: Vec<_> = chunk
                .iter()
                .map(|sandbox| scope.spawn(move || read(sandbox)))
                .collect();
            scrapes.extend(queries.into_iter().filter_map(|query| query.join().ok()));
        });
    }
    Ok(scrapes)
}

fn read(sandbox: &Sandbox) -> Scrape {
    let begun = Instant::now();
    let overview = overview::query(sandbox);
    let or_warn = |failure: Failure| {
        tracing::warn!("{} is left out: {}", sandbox.id, failure.line());
    };
    let guest = match &overview.agent {
        Some(_) => GuestPart::Listed,
        // A guest that doesn't reply must not delay the others' values again.
        None => GuestPart::Omitted,
    };
    let cards = if overview.machine.is_some() {
        let listed = host_side::list(sandbox, guest);
        listed.map_err(or_warn).unwrap_or_default()
    } else {
        Vec::new()
    };
    let services = if overview.agent.is_some() {
        services(sandbox).map_err(or_warn).unwrap_or_default()
    } else {
        Vec::new()
    };
    Scrape {
        overview,
        cards,
        services,
        duration: begun.elapsed(),
    }
}

/// Lists virtual services, without loading IPVS in the guest. Agents that can't do without have none, and
/// Kata's neither.
fn services(sandbox: &Sandbox) -> Result<Vec<ListedService>, Failure> {
    let agent = match super::connect(sandbox)?.into_patchbay() {
        Err(failure) if failure.kind() == Kind::Unsupported => return Ok(Vec::new()),
        agent => agent?,
    };
    let readings = agent.loaded_sysctls()?.unwrap_or_default();
    if readings.iter().any(|reading| reading.sysctl.is_ipvs()) {
        return agent.ipvs_table(None, Detail::Full);
    }
    Ok(Vec::new())
}
