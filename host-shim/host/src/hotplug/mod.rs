//! Plugging and unplugging of cards.
//!
//! Plugging writes the journal, runs its steps and marks the card as plugged. Undoing has a single
//! path: [`clean_up`] removes everything that the journal knows of a card, in whatever state it is.
//! It also unplugs a card and finishes what a process that died had begun.

mod descriptors;
mod detached;
mod inventory;
mod plug;
mod slot;
mod tap;
mod unplug;
mod vhost_user;

use patchbay_types::failure::Failure;

use crate::qmp::Session;
use crate::sandbox::{Journal, Lock, Sandbox};

pub(crate) use detached::{TapBackends, TapState};
pub use inventory::Mechanism;
pub(crate) use inventory::{Inventory, InventoryNic};
pub(crate) use plug::plug;
pub(crate) use slot::{free_by_bus, no_free_slot};
pub(crate) use unplug::clean_up;
pub(crate) use vhost_user::is_memory_shared;

/// Sandbox that is locked and has no unfinished operation.
pub(crate) struct LockedSandbox<'a> {
    sandbox: &'a Sandbox,
    pub(crate) qmp: Session,
    pub(crate) journal: Journal,
    _lock: Lock,
}

impl<'a> LockedSandbox<'a> {
    /// Takes the lock, checks that the machine runs and finishes the operations of processes that died.
    pub(crate) fn begin(sandbox: &'a Sandbox) -> Result<Self, Failure> {
        let mut locked = Self {
            _lock: Lock::take(&sandbox.state)?,
            sandbox,
            qmp: Session::connect(&sandbox.qmp)?,
            journal: Journal::at(sandbox.state.path()),
        };
        locked.qmp.check_running()?;
        unplug::recover(&mut locked)?;
        Ok(locked)
    }
}
