//! Sandboxes: finding them, and the lock and journal kept for each.

mod files;
mod find;
mod id;
mod journal;
mod kata;
mod lock;
mod registry;

use std::path::{Path, PathBuf};

use patchbay_types::endpoint::Endpoint;

pub use files::{ids, json_if_exists};
pub use find::find;
pub use id::SandboxId;
pub use journal::Phase;
pub(crate) use journal::{BackendRecord, CardRecord, Journal};
#[cfg(feature = "fuzzing")]
pub(crate) use kata::qemu_cid;
pub(crate) use lock::Lock;
pub use registry::{DEFAULT_RUN_DIR, SandboxFile, netns_path};

/// Places to look for sandboxes.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Run directory, in which sandboxes are registered.
    pub run_dir: PathBuf,
    /// Roots of Kata's run directories; empty: `/` and `$XDG_RUNTIME_DIR`.
    pub kata_roots: Vec<PathBuf>,
    /// Machine that is not registered; ids are not looked up then.
    pub machine: Option<MachineAccess>,
}

/// Access to a machine: its monitor, its agent and its TAP devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineAccess {
    /// QMP socket.
    pub qmp: PathBuf,
    /// Address of the agent.
    pub agent: Endpoint,
    /// Network namespace of the TAP devices, a name or a path; `None`: the caller's.
    pub netns: Option<PathBuf>,
}

/// A sandbox that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Full id, or the given one for a machine that is not registered.
    pub id: SandboxId,
    /// QMP socket.
    pub qmp: PathBuf,
    /// Address of the agent.
    pub agent: Endpoint,
    /// Path of the network namespace of the TAP devices; `None`: the caller's.
    pub netns: Option<PathBuf>,
    /// Folder of the lock and the journal.
    pub state: StateDir,
}

/// Folder of a sandbox's lock and journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// Folder that registers the sandbox. It ends with the sandbox and is never created here.
    Registered(PathBuf),
    /// Folder for a sandbox that is not registered, created on first use.
    Unregistered(PathBuf),
}

impl StateDir {
    /// Path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Registered(path) | Self::Unregistered(path) => path,
        }
    }
}
