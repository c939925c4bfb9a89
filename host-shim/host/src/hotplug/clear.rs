//! Making a card absent, whatever of it there is.

use std::time::{Duration, Instant};

use patchbay_types::IfName;
use patchbay_types::failure::{Failure, Kind};

use super::tap;
use crate::qmp::command::{ChardevRemove, CloseFd, DeviceDel, NetdevDel, QomList};
use crate::qmp::{Error, Session};
use crate::sandbox::{BackendRecord, CardRecord, Journal, Phase, Sandbox};

/// Longest wait for the guest to let a card go: five times what native hot-plug takes.
const RELEASE: Duration = Duration::from_secs(30);
/// The request is repeated so often: one that came before the guest's ACPI driver is lost.
const REPEAT: Duration = Duration::from_secs(2);
/// QOM is looked at so often: an event that came before this session is never seen.
const LOOK: Duration = Duration::from_millis(200);

/// Unplugs the card and everything behind it: device, backend, character device, descriptors, the
/// TAP's old state, the journal. Each may be absent already.
pub fn clear(
    sandbox: &Sandbox,
    qmp: &mut Session,
    journal: &Journal,
    card: &CardRecord,
) -> Result<(), Failure> {
    let _phase = tracing::info_span!("unplug").entered();
    // One that is still being added is cleared away by the next command as it is.
    if card.phase == Phase::Plugged {
        journal.write(&CardRecord {
            phase: Phase::Removing,
            ..card.clone()
        })?;
    }
    unplug(qmp, &card.name)?;
    // Only now: QEMU deletes a backend under its card too, and leaves the guest a dead one.
    gone(qmp.run(&NetdevDel {
        id: &card.netdev_id(),
    }))?;
    gone(qmp.run(&ChardevRemove {
        id: &card.chardev_id(),
    }))?;
    for fdname in &card.fds {
        gone(qmp.run(&CloseFd { fdname }))?;
    }
    if let BackendRecord::ExistingTap(before) = card.backend {
        tap::restore(sandbox.netns.as_deref(), &card.device, before)?;
    }
    journal.remove(&card.name)
}

/// Finishes what a process that died had begun: every card that is not plainly plugged goes, and so
/// does what is left of one that is no more in the machine, because the guest has ejected it or
/// because it is another machine.
pub fn recover(sandbox: &Sandbox, qmp: &mut Session, journal: &Journal) -> Result<(), Failure> {
    journal.remove_unfinished()?;
    let cards = journal.cards()?;
    if cards.is_empty() {
        return Ok(());
    }
    let present = ids(qmp)?;
    for card in cards {
        let whole =
            card.phase == Phase::Plugged && present.contains(&CardRecord::device_id(&card.name));
        if !whole {
            clear(sandbox, qmp, journal, &card).map_err(|failure| {
                failure.context(format!("could not clear away {}", card.name))
            })?;
        }
    }
    Ok(())
}

/// What was to be removed is gone, whether it was there or not.
fn gone<T>(answer: Result<T, Error>) -> Result<(), Error> {
    match answer {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

/// Asks the guest to let the device go until it has.
fn unplug(qmp: &mut Session, name: &IfName) -> Result<(), Failure> {
    let id = CardRecord::device_id(name);
    let deadline = Instant::now() + RELEASE;
    while Instant::now() < deadline {
        match qmp.run(&DeviceDel { id: &id }) {
            Err(error) if error.is_absent() => return Ok(()),
            // "already in the process of unplug", "guest is busy": asked, and not yet done.
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let again = deadline.min(Instant::now() + REPEAT);
        while Instant::now() < again {
            let until = again.min(Instant::now() + LOOK);
            let event = qmp.event(until, |event| {
                event.is("DEVICE_DELETED", &id) || event.is("DEVICE_UNPLUG_GUEST_ERROR", &id)
            })?;
            if event.is_some_and(|event| event.name == "DEVICE_UNPLUG_GUEST_ERROR") {
                let sentence = format!("the guest refuses to let the card {name} go");
                return Err(Failure::new(Kind::Denied, sentence));
            }
            if !ids(qmp)?.contains(&id) {
                return Ok(());
            }
        }
    }
    let sentence = format!(
        "the guest has not let the card {name} go in {} s; the next command goes on waiting",
        RELEASE.as_secs()
    );
    Err(Failure::new(Kind::NotYet, sentence))
}

/// The ids of the machine's devices.
fn ids(qmp: &mut Session) -> Result<Vec<String>, Error> {
    let devices = qmp.run(&QomList {
        path: "/machine/peripheral",
    })?;
    Ok(devices.into_iter().map(|device| device.name).collect())
}
