//! Steps of unplugging a card. Each finds its object absent if an earlier process has come that far.

use std::path::Path;

use patchbay_types::IfName;
use patchbay_types::failure::Failure;

use super::LockedSandbox;
use super::card_netns;
use super::host_settings::remove_settings;
use super::presence::Presence;
use super::tap::Tap;
use crate::qmp::command::{ChardevRemove, CloseFd, DeviceDel, NetdevDel};
use crate::qmp::{Error, Session};
use crate::sandbox::{BackendRecord, CardRecord};

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
    let close: Vec<_> = card.fds.iter().map(|fdname| CloseFd { fdname }).collect();
    for closed in qmp.run_all(&close)? {
        ignore_absent(closed)?;
    }
    restore_host(card, locked.sandbox.netns.as_deref())?;
    locked.journal.remove(&card.name)
}

/// Restores a TAP that existed before its card, the frames of a link that the card mirrored, and removes
/// limits, unless they were deleted with their namespace.
pub(super) fn restore_host(card: &CardRecord, sandbox_netns: Option<&Path>) -> Result<(), Failure> {
    let before = match (&card.backend, &card.mirror) {
        (BackendRecord::ExistingTap(before), _) => Some(*before),
        (_, Some(_)) => None,
        (_, None) if card.host.shaper.is_some() => None,
        (_, None) => return Ok(()),
    };
    let Some(netns) = card_netns::open(Some(card), sandbox_netns)? else {
        let device = match &card.mirror {
            Some(mirror) => format!("link '{}'", mirror.link),
            None => format!("TAP device '{}'", card.device),
        };
        tracing::warn!(
            "the {device} of the card {} was not restored: its network namespace was deleted, or is not the \
             one that this command finds",
            card.name
        );
        return Ok(());
    };
    let tap = Tap::new(netns, &card.device)?;
    if let Some(mirror) = &card.mirror {
        mirror.wire.cut(&tap.rtnetlink()?)?;
    }
    remove_settings(card, &tap)?;
    before.map_or(Ok(()), |before| tap.restore(before, card.port.as_ref()))
}

fn ignore_absent<T>(reply: Result<T, Error>) -> Result<(), Error> {
    match reply {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::super::tap::tests::{in_netns, ip};
    use super::*;
    use crate::netns::{HostLinkState, Links, Netns};
    use crate::sandbox::SavedTap;
    use crate::sandbox::tests::card;

    /// Adds a TAP that is up, and returns the record of a card to which it belongs if it is in the
    /// namespace `netns`.
    fn card_with_tap(netns: Option<Netns>) -> CardRecord {
        ip(&["tuntap", "add", "tap1", "mode", "tap"]);
        ip(&["link", "set", "tap1", "mtu", "9000", "up"]);
        CardRecord {
            netns: Some("/proc/thread-self/ns/net".into()),
            netns_id: netns.map(|netns| netns.id()),
            backend: BackendRecord::ExistingTap(SavedTap {
                state: HostLinkState {
                    mtu: 1500,
                    up: false,
                },
                index: None,
            }),
            ..card("eth1")
        }
    }

    fn is_up() -> bool {
        let links = Links::open(Netns::current().unwrap()).unwrap();
        links
            .link(&"tap1".parse().unwrap())
            .unwrap()
            .unwrap()
            .state
            .up
    }

    #[test]
    fn restore_tap_in_another_namespace_of_the_same_name_changes_nothing() {
        in_netns(|_, _| {
            let earlier = Netns::current().unwrap();
            restore_host(&card_with_tap(Some(earlier)), None).unwrap();
            assert!(!is_up(), "the TAP of the card is restored");
            let earlier = Netns::current().unwrap();
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            restore_host(&card_with_tap(Some(earlier)), None).unwrap();
            assert!(is_up(), "the TAP of another namespace stays");
        });
    }

    #[test]
    fn restore_tap_of_deleted_namespace_succeeds() {
        in_netns(|_, _| {
            let dir = tempfile::tempdir().unwrap();
            // `ip netns` mounts a namespace on an empty file, which it can leave.
            let (absent, empty) = (dir.path().join("absent"), dir.path().join("empty"));
            std::fs::write(&empty, "").unwrap();
            for path in [absent, empty] {
                let record = CardRecord {
                    netns: Some(path),
                    ..card_with_tap(None)
                };
                restore_host(&record, None).unwrap();
                assert!(is_up());
                ip(&["link", "del", "tap1"]);
            }
        });
    }
}
