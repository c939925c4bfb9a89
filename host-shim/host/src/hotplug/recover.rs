//! Recovery from commands that ended early.

use std::time::{Duration, Instant};

use patchbay_types::failure::Failure;

use super::LockedSandbox;
use super::collect::collect;
use super::host_settings;
use super::presence::{Presence, device_ids};
use super::removal::Removal;
use crate::sandbox::{CardRecord, Phase, Sandbox};

/// Time for the guest to release the cards that commands which ended early have left.
const TIMEOUT: Duration = Duration::from_secs(5);

impl<'a> LockedSandbox<'a> {
    /// Takes the lock, checks that the machine runs, and undoes what commands that ended early have
    /// left.
    pub(crate) fn begin(sandbox: &'a Sandbox) -> Result<Self, Failure> {
        let mut locked = Self::open(sandbox)?;
        locked.journal.adopt(&sandbox.earlier_state)?;
        collect(&sandbox.run_dir);
        let left = start(&mut locked)?;
        if left.is_empty() {
            return Ok(locked);
        }
        drop(locked);
        finish(sandbox, left);
        Self::open(sandbox)
    }
}

/// Starts to remove the cards that commands which ended early have left, and finishes with those that
/// the guest has released. A card that can't be removed now is left to a later command. Returns the
/// cards for which to wait.
fn start(locked: &mut LockedSandbox<'_>) -> Result<Vec<Removal>, Failure> {
    locked.journal.remove_unfinished()?;
    let cards = locked.journal.cards()?;
    if cards.is_empty() {
        return Ok(Vec::new());
    }
    let present = device_ids(locked.qmp()?)?;
    let mut started = Vec::new();
    for card in cards {
        let presence = if present.contains(&CardRecord::device_id(&card.name)) {
            Presence::Present
        } else {
            Presence::Absent
        };
        let Some(reason) = reason(&card, presence) else {
            continue;
        };
        let name = card.name.clone();
        tracing::warn!("{reason} the card {name}, which is removed now");
        match locked.start_removal(card) {
            Ok(removal) => started.extend(removal),
            Err(failure) => {
                tracing::warn!("could not remove the card {name}: {}", failure.line());
            }
        }
    }
    host_settings::undo_left(locked)?;
    Ok(started)
}

/// Returns why a card is to be removed; `None` for one that is plugged, or that another process is
/// removing, or that the guest holds longer than any process has waited.
fn reason(card: &CardRecord, device: Presence) -> Option<&'static str> {
    let is_left = card.is_left();
    match (card.phase, device) {
        // Plugging holds the lock, so its process has ended.
        (Phase::Adding, _) => Some("a command ended early while it plugged"),
        (Phase::Plugged, Presence::Absent) => Some("the guest has ejected"),
        (Phase::Removing, _) if is_left && card.owner.is_some() => {
            Some("a command ended early while it unplugged")
        }
        (Phase::Removing, Presence::Absent) if is_left => Some("the guest has at last released"),
        (Phase::Plugged | Phase::Removing, _) => None,
    }
}

/// Waits without the lock for cards whose removal was started.
fn finish(sandbox: &Sandbox, removals: Vec<Removal>) {
    let deadline = Instant::now() + TIMEOUT;
    for removal in removals {
        if let Err(failure) = removal.finish(sandbox, deadline) {
            tracing::warn!("{}", failure.line());
        }
    }
}
