//! Changes of cards whose links have changed.

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use super::examiner::{Examiner, is_watched};
use super::follow::follow;
use super::{Action, Watched, left_out};
use crate::hotplug;
use crate::ops;
use crate::sandbox::{CardRecord, Phase, ReplacedCard, Sandbox};

/// Change of a card that was carried out.
#[derive(Debug)]
pub(super) enum Done {
    /// Complete.
    Changed(Action),
    /// The card is unplugged, and is to be plugged anew.
    UnpluggedForReplug,
}

/// Carries out the change that a card needs once the lock is held, and returns it.
pub(super) fn carry_out(
    sandbox: &Sandbox,
    watched: &Watched,
    name: &IfName,
) -> Result<Option<Done>, Failure> {
    let locked = ops::begin(sandbox)?;
    let record = locked.journal.card(name)?;
    // Another command can have unplugged it, or taken it over.
    let is_kept = |record: &CardRecord| record.phase == Phase::Plugged && is_watched(record);
    let Some(record) = record.filter(is_kept) else {
        return Ok(None);
    };
    let Some(action) = Examiner::new(&watched.netns)?.examine(&record)? else {
        return Ok(None);
    };
    match action {
        Action::Plug => return Ok(None),
        Action::Update => follow(locked, &watched.netns, &record)?,
        Action::Unplug | Action::Replug => {
            sandbox.interrupt.begin_change()?;
            let routes = record.mirror.iter().flat_map(|mirror| &mirror.link_routes);
            left_out::mark(&locked.journal, &record, &routes.collect::<Vec<_>>())?;
            if action == Action::Replug {
                // Its routes are those of the link, which can be others by now.
                ops::record_replaced(&locked, &ReplacedCard::new(record.clone(), &[], &[]))?;
            }
            hotplug::remove(locked, record)?;
            if action == Action::Replug {
                return Ok(Some(Done::UnpluggedForReplug));
            }
        }
    }
    Ok(Some(Done::Changed(action)))
}
