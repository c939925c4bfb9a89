//! Changes of cards whose links have changed.

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use super::examiner::{Examiner, is_watched};
use super::follow::follow;
use super::{Action, Watched};
use crate::hotplug::{self, LockedSandbox};
use crate::sandbox::{CardRecord, Phase, Sandbox};

/// Carries out the change that a card needs once the lock is held, and returns it. After
/// [`Action::Replug`] the card is unplugged, and is to be plugged anew.
pub(super) fn carry_out(
    sandbox: &Sandbox,
    watched: &Watched,
    name: &IfName,
) -> Result<Option<Action>, Failure> {
    let locked = LockedSandbox::begin(sandbox)?;
    let record = locked.journal.card(name)?;
    // Another command can have unplugged it, or taken it over.
    let is_kept = |record: &CardRecord| record.phase == Phase::Plugged && is_watched(record);
    let Some(record) = record.filter(is_kept) else {
        return Ok(None);
    };
    let action = Examiner::new(&watched.netns)?.examine(&record)?;
    match action {
        None | Some(Action::Plug) => return Ok(None),
        Some(Action::Update) => follow(locked, &watched.netns, &record)?,
        Some(Action::Unplug | Action::Replug) => {
            sandbox.interrupt.begin_change()?;
            hotplug::remove(locked, record)?;
        }
    }
    Ok(action)
}
