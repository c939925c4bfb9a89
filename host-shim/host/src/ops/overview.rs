//! Overview of all sandboxes.

use std::path::Path;
use std::thread;
use std::time::Duration;

use patchbay_types::failure::Failure;
use serde::Serialize;

use super::attachments::recorded;
use super::connect_over;
use crate::agent::AnyAgent;
use crate::qmp::command::QomGet;
use crate::qmp::{Error, Monitor, Session};
use crate::sandbox::{self, Lookup, Phase, Sandbox};
use crate::threads;

/// Limit for the greeting of a monitor, which another client can use.
const GREETING_TIMEOUT: Duration = Duration::from_millis(500);

/// Number of sandboxes that are queried at once.
pub(super) const CONCURRENT: usize = 16;

/// State of a sandbox in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Id of the sandbox.
    pub id: String,
    /// State of the machine.
    pub state: RunState,
    /// Versioned type of the machine, as for `-machine`; `None` if the monitor does not reply.
    pub machine: Option<String>,
    /// Version of the agent; `None` if it does not reply.
    pub agent: Option<String>,
    /// Number of cards of patchbay; `None` if the journal can't be read.
    pub cards: Option<usize>,
    /// Path of the network namespace of the TAP devices; `None`: the caller's.
    pub netns: Option<String>,
}

/// State of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum RunState {
    /// QEMU's `RunState`: `running`, `paused`, `prelaunch` and others.
    Qemu(String),
    /// QEMU is stopped by a signal, or doesn't reply.
    Frozen,
    /// Another client uses the monitor.
    Busy,
    /// The caller may not use the monitor.
    Denied,
    /// Nothing serves the monitor.
    Dead,
}

impl RunState {
    /// Returns the state in one word.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Qemu(state) => state,
            Self::Frozen => "frozen",
            Self::Busy => "busy",
            Self::Denied => "denied",
            Self::Dead => "dead",
        }
    }
}

impl From<RunState> for String {
    fn from(state: RunState) -> Self {
        state.name().to_owned()
    }
}

/// Lists all sandboxes by id. A fault of one is its state, and not a failure of the list.
///
/// # Errors
/// Folders that can't be read.
pub fn overview(lookup: &Lookup) -> Result<Vec<Overview>, Failure> {
    let mut sandboxes = sandbox::all(lookup)?;
    sandboxes.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let mut rows = Vec::with_capacity(sandboxes.len());
    for chunk in sandboxes.chunks(CONCURRENT) {
        thread::scope(|scope| {
            let queries = chunk
                .iter()
                .map(|sandbox| threads::spawn(scope, move || query(sandbox).overview));
            let queries: Vec<_> = queries.collect::<Result<_, _>>()?;
            rows.extend(queries.into_iter().filter_map(|query| query.join().ok()));
            Ok::<_, Failure>(())
        })?;
    }
    Ok(rows)
}

/// Returns the state of the machine that serves a monitor. `qemu` is its process id, if known.
#[must_use]
pub fn run_state(monitor: &Path, qemu: Option<u32>) -> RunState {
    let monitor = Monitor {
        path: monitor,
        qemu,
        shared: None,
    };
    match Session::connect_within(monitor, GREETING_TIMEOUT) {
        Ok(session) => RunState::Qemu(session.status().status.clone()),
        Err(error) => unreachable_state(&error),
    }
}

/// State of a sandbox, with what was opened for it.
pub(super) struct Queried {
    pub(super) overview: Overview,
    /// Session with the monitor; `None` of a machine that does not reply.
    pub(super) qmp: Option<Session>,
    /// `None` of a guest that does not reply.
    pub(super) agent: Option<AnyAgent>,
}

pub(super) fn query(sandbox: &Sandbox) -> Queried {
    let (state, machine, mut qmp) =
        match Session::connect_within(sandbox.monitor(), GREETING_TIMEOUT) {
            Ok(mut qmp) => {
                let state = RunState::Qemu(qmp.status().status.clone());
                (state, machine_type(&mut qmp).ok(), Some(qmp))
            }
            Err(error) => (unreachable_state(&error), None, None),
        };
    let agent = qmp.as_mut().and_then(|qmp| {
        let agent = connect_over(qmp, sandbox).ok()?;
        Some((agent.greeting().ok()?.version, agent))
    });
    let (version, agent) = agent.unzip();
    let cards = recorded(sandbox).ok();
    let plugged = |cards: Vec<_>| {
        let plugged = cards
            .iter()
            .filter(|card: &&sandbox::CardRecord| card.phase == Phase::Plugged);
        plugged.count()
    };
    let netns = sandbox.netns.as_ref();
    let overview = Overview {
        id: sandbox.id.to_string(),
        state,
        machine,
        agent: version,
        cards: cards.map(plugged),
        netns: netns.map(|netns| netns.display().to_string()),
    };
    Queried {
        overview,
        qmp,
        agent,
    }
}

/// Reads the versioned type of the machine, as for `-machine`.
pub(super) fn machine_type(qmp: &mut Session) -> Result<String, Error> {
    let (path, property) = ("/machine", "type");
    let kind = qmp.run(&QomGet { path, property })?;
    let kind = kind.as_str().unwrap_or_default();
    Ok(kind.strip_suffix("-machine").unwrap_or(kind).to_owned())
}

fn unreachable_state(error: &Error) -> RunState {
    match error {
        Error::Busy { .. } | Error::NoVirsh { .. } | Error::Libvirt { .. } => RunState::Busy,
        Error::Stopped { .. } | Error::Silent { .. } => RunState::Frozen,
        Error::Foreign { .. } => RunState::Denied,
        Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            RunState::Denied
        }
        _ => RunState::Dead,
    }
}
