//! Removes a card, in whatever state it is.

use std::path::Path;
use std::time::{Duration, Instant};

use patchbay_types::IfName;
use patchbay_types::failure::{Failure, Kind};

use super::tap::Tap;
use super::{LockedSandbox, detached};
use crate::qmp::command::{ChardevRemove, CloseFd, DeviceDel, NetdevDel, QomList};
use crate::qmp::{Error, Session};
use crate::sandbox::{BackendRecord, CardRecord, Phase};

/// Longest wait for the guest to release a card: five times that of native hot-plug.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of repeated requests: one that precedes the guest's ACPI driver is lost.
const REPEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Interval of looking into QOM: an event that preceded this session is never received.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Unplugs the card and removes its backend, character device and descriptors, restores its TAP and
/// removes it from the journal. Each can be absent already.
pub(crate) fn clean_up(locked: &mut LockedSandbox<'_>, card: &CardRecord) -> Result<(), Failure> {
    let _phase = tracing::info_span!("unplug").entered();
    detached::prepare_unplug(locked, card)?;
    // The next command cleans up a card in any other phase as it is.
    if card.phase == Phase::Plugged {
        locked.journal.write(&CardRecord {
            phase: Phase::Removing,
            ..card.clone()
        })?;
    }
    let LockedSandbox { qmp, journal, .. } = locked;
    unplug(qmp, &card.name)?;
    // Only now: QEMU deletes a backend in use too, and leaves the guest with a dead card.
    let netdev = card.netdev_id();
    ignore_absent(qmp.run(&NetdevDel { id: &netdev }))?;
    let chardev = card.chardev_id();
    ignore_absent(qmp.run(&ChardevRemove { id: &chardev }))?;
    for fdname in &card.fds {
        ignore_absent(qmp.run(&CloseFd { fdname }))?;
    }
    restore_tap(card, locked.sandbox.netns.as_deref())?;
    journal.remove(&card.name)
}

/// Restores a TAP that existed before its card. Cards of release 0.1.0 don't record its namespace,
/// which is that of the sandbox.
pub(super) fn restore_tap(card: &CardRecord, sandbox_netns: Option<&Path>) -> Result<(), Failure> {
    let BackendRecord::ExistingTap(before) = card.backend else {
        return Ok(());
    };
    let netns = card.netns.as_deref().or(sandbox_netns);
    Tap::new(netns, &card.device)?.restore(before)
}

/// Finishes the operations of processes that died. Removes every card that is not in phase `plugged`
/// or is missing in the machine, because the guest ejected it or another machine has the socket.
pub(super) fn recover(locked: &mut LockedSandbox<'_>) -> Result<(), Failure> {
    locked.journal.remove_unfinished()?;
    let cards = locked.journal.cards()?;
    if cards.is_empty() {
        return Ok(());
    }
    let present = device_ids(&mut locked.qmp)?;
    for card in cards {
        let id = CardRecord::device_id(&card.name);
        if card.phase != Phase::Plugged || !present.contains(&id) {
            clean_up(locked, &card).map_err(|failure| {
                failure.context(format!("could not clean up the card {}", card.name))
            })?;
        }
    }
    Ok(())
}

fn ignore_absent<T>(reply: Result<T, Error>) -> Result<(), Error> {
    match reply {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

/// Requests the removal of the device until the guest has released it.
fn unplug(qmp: &mut Session, name: &IfName) -> Result<(), Failure> {
    let id = CardRecord::device_id(name);
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    while Instant::now() < deadline {
        match qmp.run(&DeviceDel { id: &id }) {
            Err(error) if error.is_absent() => return Ok(()),
            // "already in the process of unplug", "guest is busy": requested, not yet done.
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let repeat = deadline.min(Instant::now() + REPEAT_INTERVAL);
        while Instant::now() < repeat {
            let until = repeat.min(Instant::now() + POLL_INTERVAL);
            let event = qmp.event(until, |event| {
                event.is("DEVICE_DELETED", &id) || event.is("DEVICE_UNPLUG_GUEST_ERROR", &id)
            })?;
            if event.is_some_and(|event| event.name == "DEVICE_UNPLUG_GUEST_ERROR") {
                let message = format!("the guest refuses to release the card {name}");
                return Err(Failure::new(Kind::Denied, message));
            }
            if !device_ids(qmp)?.contains(&id) {
                return Ok(());
            }
        }
    }
    let message = format!(
        "the guest has not released the card {name} in {} s; the next command continues to wait",
        RELEASE_TIMEOUT.as_secs()
    );
    Err(Failure::new(Kind::NotYet, message))
}

/// Lists the ids of the machine's devices.
pub(super) fn device_ids(qmp: &mut Session) -> Result<Vec<String>, Error> {
    let devices = qmp.run(&QomList {
        path: "/machine/peripheral",
    })?;
    Ok(devices.into_iter().map(|device| device.name).collect())
}
