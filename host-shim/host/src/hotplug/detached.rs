//! TAPs that were deleted on the host while a card uses them.
//!
//! QEMU keeps the descriptors of their queues. A reset of the card, which is a part of unplugging,
//! sets the size of the TAP's packet header (`TUNSETVNETHDRSZ`), and QEMU exits if that fails. So the
//! descriptors are attached to a placeholder first: a TAP that is down, in the network namespace in
//! which the descriptors were opened. It ends with the backend.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, RawFd};

use patchbay_types::LinkName;
use patchbay_types::failure::{Failure, Kind};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::LockedSandbox;
use super::card_netns;
use super::inventory::InventoryNic;
use super::presence::device_ids;
use super::tap::Tap;
use super::tap::tun::{self, TAP};
use crate::qmp::command::HumanMonitorCommand;
use crate::qmp::{Error, Session};
use crate::sandbox::{BackendRecord, CardRecord};

/// Prefix of the names of placeholders.
const PLACEHOLDER: &str = "pb-gone";

/// State of the TAP of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TapState {
    /// The backend has no TAP, or there is no backend.
    None,
    /// Its present name, which can be another one than that of the plug.
    Present(LinkName),
    Deleted,
    /// QEMU's descriptors can't be seen, for example because it runs in another process namespace.
    Unknown,
}

/// Queue of a TAP backend, as QEMU has it.
#[derive(Debug, PartialEq, Eq)]
struct Queue {
    /// Number of the descriptor in QEMU.
    fd: RawFd,
    /// Name of the TAP; `None` if the TAP was deleted.
    tap: Option<LinkName>,
}

/// TAP backends of a machine.
#[derive(Debug)]
pub(crate) struct TapBackends {
    qemu: Option<Pid>,
    /// Descriptors by the id of the backend; `None` if QEMU doesn't list them.
    descriptors: Option<HashMap<String, Vec<RawFd>>>,
}

impl TapBackends {
    /// Reads the backends, of which only the human monitor has a list.
    pub(crate) fn read(qmp: &mut Session) -> Result<Self, Error> {
        let info = HumanMonitorCommand {
            command_line: "info network",
        };
        let descriptors = match qmp.run(&info) {
            Err(Error::Refused { .. }) => None,
            shown => Some(descriptors(&shown?)),
        };
        let qemu = qmp
            .qemu()
            .and_then(|qemu| Pid::from_raw(qemu.pid.cast_signed()));
        Ok(Self { qemu, descriptors })
    }

    /// Returns the state of a backend's TAP.
    fn state(&self, netdev: &str) -> TapState {
        let Ok(queues) = self.queues(netdev) else {
            return TapState::Unknown;
        };
        let is_placeholder = |name: &LinkName| name.as_bytes().starts_with(PLACEHOLDER.as_bytes());
        match queues.into_iter().next().map(|queue| queue.tap) {
            None => TapState::None,
            Some(Some(name)) if !is_placeholder(&name) => TapState::Present(name),
            Some(_) => TapState::Deleted,
        }
    }

    /// Returns the state of a card's TAP.
    pub(crate) fn state_of(&self, card: &InventoryNic) -> TapState {
        let netdev = card.netdev.as_deref();
        netdev.map_or(TapState::None, |netdev| self.state(netdev))
    }

    /// Attaches the queues of a deleted TAP to a placeholder, except for those that a process that died
    /// has attached.
    fn attach_placeholder(&self, netdev: &str) -> io::Result<()> {
        let qemu = self.qemu.ok_or(io::ErrorKind::NotFound)?;
        let qemu = pidfd_open(qemu, PidfdFlags::empty())?;
        let queues = self.queues(netdev)?;
        let attached = queues.iter().find_map(|queue| queue.tap.as_ref());
        let mut name = attached.map_or(format!("{PLACEHOLDER}%d"), LinkName::to_string);
        let flags = match queues.len() {
            1 => TAP,
            _ => TAP | libc::IFF_MULTI_QUEUE,
        };
        for queue in queues.iter().filter(|queue| queue.tap.is_none()) {
            let file = pidfd_getfd(qemu.as_fd(), queue.fd, PidfdGetfdFlags::empty())?;
            name = tun::attach(file, &name, flags)?;
        }
        Ok(())
    }

    /// Reads the queues of a backend; none for a backend that is absent or has no TAP.
    fn queues(&self, netdev: &str) -> io::Result<Vec<Queue>> {
        let descriptors = self
            .descriptors
            .as_ref()
            .ok_or(io::ErrorKind::Unsupported)?;
        let Some(descriptors) = descriptors.get(netdev) else {
            return Ok(Vec::new());
        };
        let qemu = self.qemu.ok_or(io::ErrorKind::NotFound)?;
        let read = |fd: &RawFd| {
            let path = format!("/proc/{}/fdinfo/{fd}", qemu.as_raw_nonzero());
            let tap = tap_of(&fs::read(path)?)?;
            Ok(Queue { fd: *fd, tap })
        };
        descriptors.iter().map(read).collect()
    }
}

/// Prepares the card for being unplugged without the end of QEMU.
///
/// # Errors
/// A deleted TAP whose descriptors in QEMU can't be reached.
pub(super) fn prepare_unplug(
    locked: &mut LockedSandbox<'_>,
    card: &CardRecord,
) -> Result<(), Failure> {
    if let BackendRecord::VhostUser(..) = card.backend {
        return Ok(());
    }
    let backends = TapBackends::read(locked.qmp()?)?;
    let netdev = card.netdev_id();
    let refusal = |kind: Kind| {
        let message = format!(
            "the TAP device '{}' of the card {} was deleted, and QEMU would end with the machine if the \
             card were unplugged: run patchbay as root in QEMU's process namespace",
            card.device, card.name
        );
        Failure::new(kind, message)
    };
    match backends.state(&netdev) {
        TapState::None | TapState::Present(_) => Ok(()),
        TapState::Deleted => backends.attach_placeholder(&netdev).map_err(|error| {
            let kind = error.raw_os_error().map_or(Kind::Other, Kind::from_errno);
            refusal(kind).with_cause(error.to_string())
        }),
        TapState::Unknown => {
            let netns = card_netns::open(Some(card), locked.sandbox.netns.as_deref())?;
            let exists = match netns {
                Some(netns) => Tap::new(netns, &card.device)?.exists()?,
                None => false,
            };
            let id = CardRecord::device_id(&card.name);
            if exists || !device_ids(locked.qmp()?)?.contains(&id) {
                return Ok(());
            }
            Err(refusal(Kind::Denied))
        }
    }
}

/// Returns the TAP of a card; `None` for a card with another backend.
///
/// # Errors
/// [`Kind::NotFound`] for a TAP that was deleted, or moved to another network namespace.
pub(crate) fn card_tap(
    locked: &mut LockedSandbox<'_>,
    card: &InventoryNic,
    record: Option<&CardRecord>,
) -> Result<Option<Tap>, Failure> {
    let name = card.name().unwrap_or_default();
    let device = match TapBackends::read(locked.qmp()?)?.state_of(card) {
        TapState::None => return Ok(None),
        TapState::Present(device) => device,
        TapState::Deleted => {
            let message = format!(
                "the TAP device of the card {name} was deleted on the host: unplug the card (nic del)"
            );
            return Err(Failure::new(Kind::NotFound, message));
        }
        TapState::Unknown => match record {
            Some(record) => record.device.clone(),
            None => return Ok(None),
        },
    };
    let Some(netns) = card_netns::open(record, locked.sandbox.netns.as_deref())? else {
        let message = format!(
            "the network namespace of the TAP device '{device}' of the card {name} was deleted, or its name \
             leads to another one: plug the card again"
        );
        return Err(Failure::new(Kind::NotFound, message));
    };
    let tap = Tap::new(netns, &device)?;
    if tap.exists()? {
        return Ok(Some(tap));
    }
    let message = format!(
        "the TAP device '{device}' of the card {name} is not in the network namespace of the sandbox: move it \
         back"
    );
    Err(Failure::new(Kind::NotFound, message))
}

/// Reads the descriptors of all TAP backends from the output of `info network`, which has a line for
/// each queue: `ID: index=0,type=tap,fd=31`.
fn descriptors(info: &str) -> HashMap<String, Vec<RawFd>> {
    let mut found: HashMap<String, Vec<RawFd>> = HashMap::new();
    for line in info.lines() {
        // Below the line of its card, that of a backend is indented.
        let line = line.trim_start_matches([' ', '\\']);
        let Some((id, fields)) = line.split_once(": index=") else {
            continue;
        };
        let mut fields = fields.split(',');
        let fd = fields.find_map(|field| field.strip_prefix("fd=")?.parse().ok());
        if line.contains(",type=tap,")
            && let Some(fd) = fd
        {
            found.entry(id.to_owned()).or_default().push(fd);
        }
    }
    found
}

/// Returns the name in `/proc/PID/fdinfo/FD` of a TAP's queue; `None` if the TAP was deleted.
///
/// # Errors
/// Another kind of file.
fn tap_of(fdinfo: &[u8]) -> io::Result<Option<LinkName>> {
    let mut lines = fdinfo.split(|byte| *byte == b'\n');
    let name = lines.find_map(|line| line.strip_prefix(b"iff:\t"));
    let name = name.ok_or(io::ErrorKind::InvalidData)?;
    // That of a deleted TAP is empty.
    Ok(LinkName::try_from(name).ok())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};

    use patchbay_types::QueuePairs;

    use super::super::tap::tests::{in_netns, ip};
    use super::*;

    const SHOWN: &str = "pbd.eth1: index=0,type=nic,model=virtio-net-pci,macaddr=02:00:00:00:00:01\r\n \
                         \\ pbn.eth1.5f: index=0,type=tap,fd=31\r\npbd.eth1: index=1,type=nic\r\n \
                         \\ pbn.eth1.5f: index=1,type=tap,fd=32\r\npbn.x.1: index=0,type=vhost-user,fd=9\r\n\
                         net0: index=0,type=tap,ifname=t,script=no,downscript=no\r\n";

    #[test]
    fn descriptors_are_those_of_taps_with_descriptors() {
        let expected = HashMap::from([("pbn.eth1.5f".to_owned(), vec![31, 32])]);
        assert_eq!(descriptors(SHOWN), expected);
    }

    #[test]
    fn tap_of_distinguishes_deleted_from_other_files() {
        let name = "tap1".parse().unwrap();
        assert_eq!(tap_of(b"pos:\t0\niff:\ttap1\n").unwrap(), Some(name));
        assert_eq!(tap_of(b"pos:\t0\niff:\t\n").unwrap(), None);
        let error = tap_of(b"pos:\t0\nflags:\t02\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    /// Returns backends of this process in QEMU's place.
    fn backends(queues: &[OwnedFd]) -> TapBackends {
        let descriptors = queues.iter().map(AsRawFd::as_raw_fd).collect();
        TapBackends {
            qemu: Some(rustix::process::getpid()),
            descriptors: Some(HashMap::from([("n".to_owned(), descriptors)])),
        }
    }

    fn taps(backends: &TapBackends) -> Vec<String> {
        let queues = backends.queues("n").unwrap().into_iter();
        queues.map(|queue| queue.tap.unwrap().to_string()).collect()
    }

    #[test]
    fn attach_placeholder_replaces_deleted_tap_until_queues_close() {
        for pairs in [1, 4] {
            in_netns(|device, tap| {
                let (queues, _) = tap.open(QueuePairs::try_from(pairs).unwrap()).unwrap();
                let backends = backends(&queues);
                assert_eq!(backends.state("n"), TapState::Present(device.into()));
                ip(&["link", "del", device.as_str()]);
                assert_eq!(backends.state("n"), TapState::Deleted);
                backends.attach_placeholder("n").unwrap();
                let shown = ip(&["link", "show"]);
                assert_eq!(shown.matches("pb-gone").count(), 1, "{shown}");
                assert!(!shown.contains("UP"), "{shown}");
                assert!(taps(&backends).iter().all(|tap| tap == "pb-gone0"));
                assert_eq!(backends.state("n"), TapState::Deleted);
                drop(queues);
                assert!(!ip(&["link", "show"]).contains("pb-gone"));
            });
        }
    }

    #[test]
    fn attach_placeholder_completes_an_interrupted_one() {
        in_netns(|device, tap| {
            let (queues, _) = tap.open(QueuePairs::try_from(2).unwrap()).unwrap();
            ip(&["link", "del", device.as_str()]);
            tun::attach(&queues[0], "pb-gone7", TAP | libc::IFF_MULTI_QUEUE).unwrap();
            let backends = backends(&queues);
            backends.attach_placeholder("n").unwrap();
            assert_eq!(taps(&backends), ["pb-gone7", "pb-gone7"]);
        });
    }

    #[test]
    fn state_of_unseen_process_is_unknown() {
        in_netns(|_, tap| {
            let (queues, _) = tap.open(QueuePairs::ONE).unwrap();
            let unseen = |qemu| TapBackends {
                qemu,
                ..backends(&queues)
            };
            assert_eq!(unseen(None).state("n"), TapState::Unknown);
            // Process 1 has other files.
            assert_eq!(unseen(Pid::from_raw(1)).state("n"), TapState::Unknown);
            assert_eq!(unseen(None).state("absent"), TapState::None);
        });
    }
}
