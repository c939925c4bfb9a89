//! Removal of the leftovers of ended machines and killed commands.

use patchbay_types::failure::{Failure, Kind};

use super::attachments::recorded;
use super::replaced;
use crate::hotplug::{LockedSandbox, collect};
use crate::mirror;
use crate::netns::Netns;
use crate::sandbox::{self, CardRecord, Journal, Lookup, Phase, Sandbox};

/// Removes the state of machines that have ended, the cards that killed commands have left, and
/// redirections to cards that are gone. Goes on after a failure, and returns the first one.
///
/// # Errors
/// Folders that can't be read; failures of QEMU and the host's kernel.
pub fn gc(lookup: &Lookup) -> Result<(), Failure> {
    collect(&lookup.run_dir);
    let mut first = Ok(());
    for sandbox in sandbox::all(lookup)? {
        let cleaned = finish_left(&sandbox)
            .and(replaced::restore_all(&sandbox))
            .and(cut_strays(&sandbox));
        let context = || format!("could not clean up after sandbox {}", sandbox.id);
        first = first.and(cleaned.map_err(|failure| failure.context(context())));
    }
    first
}

/// Finishes what killed commands have begun. The monitor of other machines is not needed.
///
/// # Errors
/// [`Kind::NotYet`] if the guest has not released a card; failures of QEMU and the host's kernel.
pub fn finish_left(sandbox: &Sandbox) -> Result<(), Failure> {
    replaced::restore_left(sandbox)?;
    let mut left = recorded(sandbox)?;
    left.retain(|record| record.is_left() || record.host.before.is_some());
    if left.is_empty() && !has_unfinished(sandbox)? {
        return Ok(());
    }
    // It only warns of a card that can't be removed.
    LockedSandbox::begin(sandbox)?;
    let was_left = |record: &CardRecord| left.iter().any(|left| left.name == record.name);
    let mut records = recorded(sandbox)?.into_iter();
    match records.find(|record| record.phase != Phase::Plugged && was_left(record)) {
        Some(CardRecord { name, .. }) => {
            let message = format!("the card {name} is not removed yet: repeat the command");
            Err(Failure::new(Kind::NotYet, message))
        }
        None => Ok(()),
    }
}

/// Returns whether a killed command has left a file that it was writing.
fn has_unfinished(sandbox: &Sandbox) -> Result<bool, Failure> {
    match sandbox.state() {
        Ok(state) => Journal::at(state.path()).has_unfinished(),
        Err(absent) if absent.kind() == Kind::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Removes redirections to cards that are gone, which swallow the frames of their links.
fn cut_strays(sandbox: &Sandbox) -> Result<(), Failure> {
    let Ok(netns) = Netns::open_or_current(sandbox.netns.as_deref()) else {
        // The links are gone with it.
        return Ok(());
    };
    for link in mirror::cut_strays(&netns)? {
        tracing::warn!(
            "removed the redirection of the link with index {link} in the network namespace of sandbox {}",
            sandbox.id
        );
    }
    Ok(())
}
