//! Changes of an interface of the guest, a plugged card or not.

use std::path::Path;
use std::slice;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, Interface, LinkChange};
use patchbay_wire::Feature;

use super::{change_guest, mtu};
use crate::agent::GuestAgent;
use crate::hotplug::LockedSandbox;
use crate::sandbox::{CardRecord, Journal, Sandbox};

/// Changes an interface of the guest. The TAP of a card gets the same MTU.
///
/// # Errors
/// [`Kind::NotFound`] without an interface of this name, or without the TAP of a card whose MTU
/// changes; [`Kind::Invalid`] for a name that fits two; failures of QEMU, the host's kernel and the
/// agent.
pub fn update(sandbox: &Sandbox, change: &LinkChange) -> Result<(), Failure> {
    let Some(mtu) = change.mtu() else {
        return change_guest(sandbox, |agent| update_in_guest(sandbox, agent, change));
    };
    if !has_cards(sandbox)? {
        let changed = change_guest(sandbox, |agent| {
            // A card can have been plugged before the lock was taken.
            if has_cards(sandbox)? {
                return Ok(None);
            }
            update_in_guest(sandbox, agent, change).map(Some)
        })?;
        if changed.is_some() {
            return Ok(());
        }
    }
    mtu::update_with_tap(&mut LockedSandbox::begin(sandbox)?, change, mtu)
}

/// Changes an interface of the guest without the TAP of a card.
fn update_in_guest(
    sandbox: &Sandbox,
    agent: &dyn GuestAgent,
    change: &LinkChange,
) -> Result<(), Failure> {
    let state = match sandbox.state() {
        Ok(state) => state,
        // No card can be plugged there.
        Err(absent) if absent.kind() == Kind::NotFound => {
            return agent.update(change).map(drop);
        }
        Err(failure) => return Err(failure),
    };
    let journal = Journal::at(state.path());
    let records = journal.cards()?;
    let change = &with_card(change, &records);
    if change.rename().is_some() {
        agent.greeting()?.require(Feature::Rename)?;
        check_rename(change, &agent.interfaces(AddressDetail::Omitted)?, &records)?;
    }
    let interface = send(agent, change)?;
    record(&journal, records, change, &interface)
}

/// Returns whether the journal has cards. Without any no monitor is needed, which another program can
/// occupy.
fn has_cards(sandbox: &Sandbox) -> Result<bool, Failure> {
    let has = |folder: &Path| Ok::<_, Failure>(!Journal::at(folder).cards()?.is_empty());
    match sandbox.state() {
        Ok(state) => Ok(has(state.path())? || has(&sandbox.earlier_state)?),
        Err(absent) if absent.kind() == Kind::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Adds the path of the card that was plugged under the name of a change.
pub(super) fn with_card(change: &LinkChange, records: &[CardRecord]) -> LinkChange {
    let plugged = records.iter().find(|record| *change.name() == record.name);
    let path = plugged.and_then(|record| record.path.clone());
    change.clone().with_card(path)
}

/// Checks that a new name isn't the one under which another card was plugged: both names are keys.
pub(super) fn check_rename(
    change: &LinkChange,
    interfaces: &[Interface],
    records: &[CardRecord],
) -> Result<(), Failure> {
    let path = mtu::target(change, interfaces).and_then(|interface| interface.path.as_ref());
    let is_other = |record: &&CardRecord| path.is_none() || record.path.as_ref() != path;
    let mut others = records.iter().filter(is_other);
    let Some(new) = change
        .rename()
        .filter(|new| others.any(|other| other.name == **new))
    else {
        return Ok(());
    };
    let message = format!("the name '{new}' is that under which another card was plugged");
    Err(Failure::new(Kind::Exists, message).with_field("rename"))
}

/// Sends a change. A failure to find a card's interface includes the place of the card, if the agent
/// knows it.
pub(super) fn send(agent: &dyn GuestAgent, change: &LinkChange) -> Result<Interface, Failure> {
    agent.update(change).map_err(|failure| {
        let path = change.card().filter(|_| failure.kind() == Kind::NotFound);
        let places = path.and_then(|path| agent.places(slice::from_ref(path)).ok());
        match places.as_deref() {
            Some([place]) => failure.with_cause(format!("its card is {place}")),
            _ => failure,
        }
    })
}

/// Records the change of a card, which a restart of the guest undoes.
pub(super) fn record(
    journal: &Journal,
    records: Vec<CardRecord>,
    change: &LinkChange,
    interface: &Interface,
) -> Result<(), Failure> {
    let is_at = |record: &CardRecord| record.path.is_some() && record.path == interface.path;
    match records.into_iter().find(is_at) {
        Some(record) if record.link.is_some() => write(journal, record, change),
        _ => Ok(()),
    }
}

/// Writes the record of a card that was changed.
pub(super) fn write(
    journal: &Journal,
    mut record: CardRecord,
    change: &LinkChange,
) -> Result<(), Failure> {
    if let Some(link) = &mut record.link {
        link.spec = change.applied_to(&link.spec);
    }
    journal.write(&record).map_err(|failure| {
        failure.context("the interface is changed, but a restart of the guest will undo it")
    })
}
