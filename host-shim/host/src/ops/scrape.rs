//! Everything of a sandbox that a monitoring system reads.

use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Detail, ListedService, Reading, Sysctl, SysctlValue};

use super::host_side::{self, CardOnHost};
use super::overview::{self, CONCURRENT, Overview, Queried};
use crate::agent::{AnyAgent, LoadedSettings};
use crate::sandbox::{self, Lookup, Sandbox};
use crate::threads;

/// State of a sandbox at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// State of the machine and of the agent.
    pub overview: Overview,
    /// Cards; none of a machine that doesn't reply.
    pub cards: Vec<CardOnHost>,
    /// Virtual services with their servers and counters; none where IPVS isn't loaded.
    pub services: Vec<ListedService>,
    /// Fill of conntrack.
    pub conntrack: ConntrackFill,
    /// Time that it took.
    pub duration: Duration,
}

/// Number of flows that conntrack tracks, and their limit. Neither is known where it isn't loaded, nor the first
/// of older agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConntrackFill {
    /// Number of flows.
    pub flows: Option<u32>,
    /// Maximum number; 0: no limit.
    pub limit: Option<u32>,
}

/// IPVS and conntrack of a guest.
#[derive(Debug, Default)]
struct Tables {
    services: Vec<ListedService>,
    conntrack: ConntrackFill,
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
            let queries = chunk
                .iter()
                .map(|sandbox| threads::spawn(scope, move || read(sandbox)));
            let queries: Vec<_> = queries.collect::<Result<_, _>>()?;
            scrapes.extend(queries.into_iter().filter_map(|query| query.join().ok()));
            Ok::<_, Failure>(())
        })?;
    }
    Ok(scrapes)
}

fn read(sandbox: &Sandbox) -> Scrape {
    let begun = Instant::now();
    let or_warn = |failure: Failure| {
        tracing::warn!("{} is left out: {}", sandbox.id, failure.line());
    };
    let Queried {
        overview,
        qmp,
        agent,
    } = overview::query(sandbox);
    // A guest that doesn't reply must not delay the others' values again.
    let listed = qmp.map(|qmp| host_side::list(sandbox, qmp, agent));
    let (cards, agent) = listed
        .transpose()
        .map_err(or_warn)
        .unwrap_or_default()
        .unwrap_or_default();
    let tables = agent.map(|agent| tables(agent, &or_warn)).transpose();
    let tables = tables.map_err(or_warn);
    let Tables {
        services,
        conntrack,
    } = tables.unwrap_or_default().unwrap_or_default();
    Scrape {
        overview,
        cards,
        services,
        conntrack,
        duration: begun.elapsed(),
    }
}

/// Reads the tables without loading a module in the guest. Agents that can't do without have none, and
/// Kata's neither.
fn tables(agent: AnyAgent, or_warn: &dyn Fn(Failure)) -> Result<Tables, Failure> {
    let agent = match agent.into_patchbay() {
        Err(failure) if failure.kind() == Kind::Unsupported => return Ok(Tables::default()),
        agent => agent?,
    };
    let settings = agent.loaded_settings()?.unwrap_or_default();
    let has_ipvs = settings.has_ipvs();
    let LoadedSettings { readings, flows } = settings;
    let mut limits = readings.iter().filter_map(|reading| match reading {
        Reading {
            sysctl: Sysctl::CONNTRACK_MAX,
            value: SysctlValue::One(most),
        } => u32::try_from(*most).ok(),
        _ => None,
    });
    let conntrack = ConntrackFill {
        flows,
        limit: limits.next(),
    };
    let services = has_ipvs.then(|| agent.ipvs_table(None, Detail::Full));
    let services = services.transpose().map_err(or_warn);
    Ok(Tables {
        services: services.unwrap_or_default().unwrap_or_default(),
        conntrack,
    })
}
