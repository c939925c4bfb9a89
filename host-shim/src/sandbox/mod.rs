//! Finding a sandbox, and what is kept beside it: the lock and the journal.

mod find;
mod journal;
mod lock;

use std::path::PathBuf;

use patchbay_protocols::endpoint::Endpoint;

pub(crate) use find::find;
pub(crate) use journal::{Behind, Card, Journal, Phase, TapBefore};
pub(crate) use lock::Lock;

/// A machine, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Its QMP socket.
    pub(crate) qmp: PathBuf,
    /// Its agent.
    pub(crate) agent: Endpoint,
    /// Where its TAP devices are; `None`: in the caller's network namespace.
    pub(crate) netns: Option<PathBuf>,
    /// Where its lock and its journal are.
    pub(crate) state: PathBuf,
}
