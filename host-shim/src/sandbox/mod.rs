//! Finding a sandbox, and what is kept beside it: the lock and the journal.

mod files;
mod find;
mod id;
mod journal;
mod kata;
mod lock;
mod registered;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    pub(crate) state: State,
}

/// The folder of a sandbox's lock and journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// The one that registers it. It ends with the sandbox, so it is never made here.
    Registered(PathBuf),
    /// One of our own, made when it is first needed, for a sandbox that is not registered with us.
    Apart(PathBuf),
}

impl State {
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Registered(path) | Self::Apart(path) => path,
        }
    }

    fn make(&self) -> io::Result<()> {
        match self {
            Self::Registered(_) => Ok(()),
            Self::Apart(path) => fs::create_dir_all(path),
        }
    }
}
