//! Finding a sandbox, and what is kept beside it: the lock and the journal.

mod files;
mod find;
mod id;
mod journal;
mod kata;
mod lock;
mod registered;

use std::path::PathBuf;

use patchbay_protocols::endpoint::Endpoint;

pub(crate) use find::find;
pub(crate) use id::Id;
pub(crate) use journal::{Behind, Card, Journal, Phase, TapBefore};
#[cfg(fuzzing)]
pub(crate) use kata::cid;
pub(crate) use lock::Lock;

/// A machine, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Its id, or what it was called when it was given by hand.
    pub(crate) id: Id,
    /// Its QMP socket.
    pub(crate) qmp: PathBuf,
    /// Its agent.
    pub(crate) agent: Endpoint,
    /// Where its TAP devices are; `None`: in the caller's network namespace.
    pub(crate) netns: Option<PathBuf>,
    /// Where its lock and its journal are.
    pub(crate) state: PathBuf,
}
