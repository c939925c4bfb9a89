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

use patchbay_types::endpoint::Endpoint;

pub use find::find;
pub use id::Id;
pub use journal::{Behind, Card, Journal, Phase, SavedTapState};
#[cfg(fuzzing)]
pub(crate) use kata::qemu_cid;
pub use lock::Lock;

/// Where sandboxes are looked for.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Directory in which sandboxes are registered.
    pub run_dir: PathBuf,
    /// Roots below which Kata's run directories are; none: the defaults of Kata.
    pub kata_roots: Vec<PathBuf>,
    /// A machine that no run directory knows; ids are not looked up then.
    pub machine: Option<Machine>,
}

/// A machine whose sockets the caller names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// QMP socket.
    pub qmp: PathBuf,
    /// Address of the agent.
    pub agent: Endpoint,
    /// Network namespace of the TAP devices, a name or a path; `None`: the caller's.
    pub netns: Option<PathBuf>,
}

/// A machine, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id, or what it was called when it was given by hand.
    pub id: Id,
    /// Its QMP socket.
    pub qmp: PathBuf,
    /// Its agent.
    pub agent: Endpoint,
    /// Where its TAP devices are; `None`: in the caller's network namespace.
    pub netns: Option<PathBuf>,
    /// Where its lock and its journal are.
    pub state: StateDir,
}

/// The folder of a sandbox's lock and journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// The one that registers it. It ends with the sandbox, so it is never made here.
    Registered(PathBuf),
    /// One of our own, made when it is first needed, for a sandbox that is not registered with us.
    Unregistered(PathBuf),
}

impl StateDir {
    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Registered(path) | Self::Unregistered(path) => path,
        }
    }

    fn make(&self) -> io::Result<()> {
        match self {
            Self::Registered(_) => Ok(()),
            Self::Unregistered(path) => fs::create_dir_all(path),
        }
    }
}
