//! Handing open devices to QEMU.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use patchbay_types::failure::Failure;

use crate::qmp::Session;
use crate::qmp::command::{GetFd, NetdevAdd, Vhost, Yes};
use crate::sandbox::CardRecord;

/// The descriptors of one attempt, with the names by which the monitor gets to know them. The names
/// of two attempts never meet: one that is sent twice silently closes the first.
pub(super) struct Descriptors {
    queues: Vec<(String, OwnedFd)>,
    /// As many as queues, or none.
    vhost: Vec<(String, OwnedFd)>,
}

impl Descriptors {
    /// The queues of a TAP, and vhost-net for each where the host has it.
    pub(super) fn new(suffix: &str, queues: Vec<OwnedFd>) -> Self {
        let named = |kind: char, fds: Vec<OwnedFd>| {
            let name = |index| format!("pb-{suffix}-{kind}{index}");
            fds.into_iter()
                .enumerate()
                .map(|(index, fd)| (name(index), fd))
                .collect()
        };
        let vhost = vhost(queues.len());
        Self {
            queues: named('q', queues),
            vhost: named('v', vhost),
        }
    }

    /// All the names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.queues
            .iter()
            .chain(&self.vhost)
            .map(|(name, _)| name.as_str())
    }

    /// Hands them over and makes the card's backend of them.
    pub(super) fn make_backend(&self, qmp: &mut Session, card: &CardRecord) -> Result<(), Failure> {
        for (fdname, fd) in self.queues.iter().chain(&self.vhost) {
            qmp.run_with_fd(&GetFd { fdname }, fd.as_fd())
                .map_err(|error| Failure::from(error).context("could not hand the TAP to QEMU"))?;
        }
        let backend = NetdevAdd {
            r#type: "tap",
            id: &card.netdev_id(),
            fds: joined(&self.queues),
            vhost: (!self.vhost.is_empty()).then(|| Vhost {
                vhost: Yes,
                vhostforce: Yes,
                vhostfds: joined(&self.vhost),
            }),
        };
        let made = qmp.run(&backend).map(drop);
        made.map_err(|error| Failure::from(error).context("could not make the card's backend"))
    }
}

/// vhost-net moves packets in the host's kernel; where it can't be opened QEMU moves them itself.
fn vhost(count: usize) -> Vec<OwnedFd> {
    let open = |_| {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/vhost-net")
            .map(Into::into)
    };
    (0..count)
        .map(open)
        .collect::<Result<_, _>>()
        .unwrap_or_default()
}

/// The names with colons between them; QEMU takes a comma for part of a name.
fn joined(fds: &[(String, OwnedFd)]) -> String {
    let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
    names.join(":")
}
