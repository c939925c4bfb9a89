//! Sandboxes: finding them, and the lock and journal kept for each.

mod by_namespace;
mod card_record;
mod earlier;
mod files;
mod find;
mod host_record;
mod id;
mod journal;
mod kata;
mod libvirt;
mod link_record;
mod lock;
mod machine;
mod machine_access;
mod registry;
mod replaced_card;
mod route_record;
pub mod second_monitor;
mod tap_record;
mod trusted;

use std::collections::BTreeMap;
use std::path::PathBuf;

use patchbay_types::endpoint::Endpoint;
use patchbay_types::failure::Failure;

use crate::interrupt::Interrupt;
use crate::process::Process;
use crate::qmp::{Monitor, SharedMonitor};
use crate::vsock_stream;
pub use by_namespace::{Resident, of_container};
pub use card_record::Phase;
pub(crate) use card_record::{BackendRecord, CardRecord, Membership, PortRecord, name_as_text};
pub use files::{bytes_if_exists, check_trusted, ids, invalid as invalid_file, json_if_exists};
pub use find::{all, find, find_whole, warn_of_left_out};
pub(crate) use find::{folders, libvirt_folders, sockets};
pub(crate) use host_record::{HostRecord, ShaperRecord, VlanRecord};
pub use id::SandboxId;
#[cfg(test)]
pub(crate) use journal::tests;
pub(crate) use journal::{Journal, ReplacedCards};
pub(crate) use kata::annotation;
#[cfg(feature = "fuzzing")]
pub(crate) use kata::qemu_cid;
pub(crate) use link_record::LinkRecord;
pub(crate) use lock::Lock;
pub(crate) use machine::StateDir;
pub use registry::{DEFAULT_RUN_DIR, SandboxFile, netns_path};
pub(crate) use replaced_card::ReplacedCard;
pub(crate) use route_record::RouteRecord;
pub(crate) use tap_record::{MtuState, SavedTap};

/// Places to look for sandboxes.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Run directory, in which sandboxes are registered.
    pub run_dir: PathBuf,
    /// Roots of the run directories of Kata and of libvirt; empty: `/` and, except for root,
    /// `$XDG_RUNTIME_DIR`.
    pub kata_roots: Vec<PathBuf>,
    /// Machine that is not registered; ids are not looked up then.
    pub machine: Option<MachineAccess>,
    /// Machines that the configuration of the host names. A name takes precedence over other ids, and
    /// has no prefixes.
    pub named: BTreeMap<SandboxId, NamedMachine>,
    /// Interruption of the operations on the sandbox that is found.
    pub interrupt: Interrupt,
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

/// Machine that the configuration of the host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMachine {
    /// QMP socket; `None`: the monitor of the domain of libvirt with this name.
    pub qmp: Option<PathBuf>,
    /// Address of the agent.
    pub agent: Endpoint,
    /// Network namespace of the TAP devices, a name or a path; `None`: the caller's.
    pub netns: Option<PathBuf>,
}

/// A sandbox that was found.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Full id, or the given one for a machine that is not registered.
    pub id: SandboxId,
    /// QMP socket.
    pub qmp: PathBuf,
    /// Address of the agent.
    pub agent: Endpoint,
    /// Path of the network namespace of the TAP devices; `None`: the caller's.
    pub netns: Option<PathBuf>,
    /// Run directory, which has the machine's lock and journal.
    pub run_dir: PathBuf,
    /// Folder that had the lock and the journal until release 0.1.0.
    pub(crate) earlier_state: PathBuf,
    /// Process id of QEMU, if it is registered.
    pub(crate) pid: Option<u32>,
    /// The way to the monitor through libvirtd, if that has the socket.
    pub(crate) shared_monitor: Option<SharedMonitor>,
    pub(crate) interrupt: Interrupt,
}

impl Sandbox {
    /// Returns the folder of the machine's lock and journal.
    ///
    /// # Errors
    /// [`Kind::NotFound`](patchbay_types::failure::Kind::NotFound) without a monitor.
    pub(crate) fn state(&self) -> Result<StateDir, Failure> {
        StateDir::of(&self.run_dir, &self.qmp)
    }

    /// Returns whether nothing serves the monitor any more. A connection to the socket of libvirtd's monitor
    /// would stay in its queue.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.shared_monitor {
            Some(shared) => Process::of(shared.qemu).is_none(),
            None => vsock_stream::is_closed(&self.qmp),
        }
    }

    /// Returns the monitor.
    pub(crate) fn monitor(&self) -> Monitor<'_> {
        let recorded = self.state().ok().and_then(|state| state.qemu());
        let qemu = recorded.map(|qemu| qemu.pid).or(self.pid);
        Monitor {
            path: &self.qmp,
            qemu,
            shared: self.shared_monitor.as_ref(),
        }
    }
}
