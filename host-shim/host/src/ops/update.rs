//! Changes of an interface of the guest, a plugged card or not.

use std::path::Path;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, LinkChange};
use patchbay_wire::Feature;

use super::link_change::{check_rename, record, send, with_card};
use super::{begin, change_guest, mtu};
use crate::agent::GuestAgent;
use crate::sandbox::{Journal, Sandbox};

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
    mtu::update_with_tap(&mut begin(sandbox)?, change, mtu)
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
