//! Steps of unplugging a card. Each finds its object absent if an earlier process has come that far.

use std::path::Path;

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use super::LockedSandbox;
use super::tap::Tap;
use crate::qmp::command::{ChardevRemove, CloseFd, DeviceDel, NetdevDel, QomList};
use crate::qmp::{Error, Session};
use crate::sandbox::{BackendRecord, CardRecord};

/// State of a device in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Absent,
}

/// Requests the removal of the device from the guest.
pub(super) fn request_removal(qmp: &mut Session, name: &IfName) -> Result<Presence, Error> {
    let id = CardRecord::device_id(name);
    match qmp.run(&DeviceDel { id: &id }) {
        Err(error) if error.is_absent() => Ok(Presence::Absent),
        // "already in the process of unplug", "guest is busy": requested, not yet done.
        Ok(_) | Err(Error::Refused { .. }) => Ok(Presence::Present),
        Err(error) => Err(error),
    }
}

/// Removes backend, character device and descriptors of a card whose device is gone, restores its TAP
/// and removes it from the journal. Earlier, QEMU would delete a backend in use too, and leave the
/// guest with a dead card.
pub(super) fn remove_backend(
    locked: &mut LockedSandbox<'_>,
    card: &CardRecord,
) -> Result<(), Failure> {
    let qmp = locked.qmp()?;
    let netdev = card.netdev_id();
    ignore_absent(qmp.run(&NetdevDel { id: &netdev }))?;
    let chardev = card.chardev_id();
    ignore_absent(qmp.run(&ChardevRemove { id: &chardev }))?;
    for fdname in &card.fds {
        ignore_absent(qmp.run(&CloseFd { fdname }))?;
    }
    restore_tap(card, locked.sandbox.netns.as_deref())?;
    locked.journal.remove(&card.name)
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

fn ignore_absent<T>(reply: Result<T, Error>) -> Result<(), Error> {
    match reply {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

/// Lists the ids of the machine's devices.
pub(super) fn device_ids(qmp: &mut Session) -> Result<Vec<String>, Error> {
    let devices = qmp.run(&QomList {
        path: "/machine/peripheral",
    })?;
    Ok(devices.into_iter().map(|device| device.name).collect())
}
