//! Parts of a change of an interface of the guest: its card, its checks, and the record of the card.

use std::slice;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Interface, LinkChange};

use crate::agent::GuestAgent;
use crate::sandbox::{CardRecord, Journal};

/// Adds the path of the card that was plugged under the name of a change.
pub(super) fn with_card(change: &LinkChange, records: &[CardRecord]) -> LinkChange {
    let plugged = records.iter().find(|record| *change.name() == record.name);
    let path = plugged.and_then(|record| record.path.clone());
    change.clone().with_card(path)
}

/// Finds the interface of a change; the agent rejects one that fits two.
pub(super) fn target<'a>(
    change: &LinkChange,
    interfaces: &'a [Interface],
) -> Option<&'a Interface> {
    let is_card = |interface: &&Interface| {
        change.card().is_some() && interface.path.as_ref() == change.card()
    };
    let is_named = |interface: &&Interface| interface.name == *change.name();
    let named = || interfaces.iter().find(is_named);
    interfaces.iter().find(is_card).or_else(named)
}

/// Checks that a new name isn't the one under which another card was plugged: both names are keys.
pub(super) fn check_rename(
    change: &LinkChange,
    interfaces: &[Interface],
    records: &[CardRecord],
) -> Result<(), Failure> {
    let path = target(change, interfaces).and_then(|interface| interface.path.as_ref());
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
