//! Plugging and unplugging of cards.
//!
//! Plugging writes the journal, runs its steps and marks the card as plugged. Undoing has a single
//! path: [`clean_up`] removes everything that the journal knows of a card, in whatever state it is.
//! It also unplugs a card and finishes what a process that died had begun.

mod collect;
mod descriptors;
mod detached;
mod inventory;
mod plug;
mod slot;
mod tap;
mod unplug;
mod vhost_user;

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use crate::qmp::command::QomGet;
use crate::qmp::{Error, Session};
use crate::sandbox::{BackendRecord, CardRecord, Journal, Lock, MtuState, Phase, Sandbox};

pub use collect::collect;
pub(crate) use detached::{TapBackends, TapState, card_tap};
pub use inventory::Mechanism;
pub(crate) use inventory::{Inventory, InventoryNic};
pub(crate) use plug::plug;
pub(crate) use slot::{free_by_bus, no_free_slot};
pub(crate) use tap::Tap;
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
        let state = sandbox.state()?;
        let lock = Lock::take(&state)?;
        let qmp = Session::connect(&sandbox.qmp)?;
        state.describe(qmp.qemu())?;
        let journal = Journal::at(state.path());
        journal.adopt(&sandbox.earlier_state)?;
        collect(&sandbox.run_dir);
        let mut locked = Self {
            sandbox,
            qmp,
            journal,
            _lock: lock,
        };
        locked.qmp.check_running()?;
        unplug::recover(&mut locked)?;
        Ok(locked)
    }

    /// Reads the records of cards that QEMU has with the same backend.
    pub(crate) fn records(&self, nics: &[InventoryNic]) -> Result<Vec<CardRecord>, Failure> {
        let mut records = self.journal.cards()?;
        records.retain(|record| {
            let netdev = Some(record.netdev_id());
            nics.iter().any(|nic| nic.netdev == netdev)
        });
        Ok(records)
    }

    /// Returns the card of this name. QEMU decides which backend it has; a record of another one was
    /// lost by a command that used another run directory, or another release.
    pub(crate) fn card(&mut self, name: &IfName) -> Result<Option<CardRecord>, Failure> {
        let record = self.journal.card(name)?;
        let Some(netdev) = netdev(&mut self.qmp, name)? else {
            return Ok(record);
        };
        let is_same = |record: &CardRecord| record.netdev_id() == netdev;
        Ok(record.filter(is_same).or_else(|| {
            let suffix = netdev.strip_prefix(&CardRecord::netdev_prefix(name));
            Some(CardRecord {
                phase: Phase::Plugged,
                name: name.clone(),
                device: name.into(),
                netns: None,
                suffix: suffix.unwrap_or_default().to_owned(),
                fds: Vec::new(),
                backend: BackendRecord::OwnTap,
                path: None,
                link: None,
                mtu: MtuState::Settled,
            })
        }))
    }
}

/// Reads the id of the card's backend; `None` if QEMU does not have the card.
fn netdev(qmp: &mut Session, name: &IfName) -> Result<Option<String>, Error> {
    let path = format!(
        "{}{}",
        inventory::NAMED_DEVICES,
        CardRecord::device_id(name)
    );
    let property = "netdev";
    let path = path.as_str();
    match qmp.run(&QomGet { path, property }) {
        Ok(netdev) => Ok(netdev.as_str().map(str::to_owned)),
        Err(Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
