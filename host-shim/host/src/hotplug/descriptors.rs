//! Hands open TAP queues to QEMU.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use patchbay_types::failure::Failure;

use crate::qmp::Session;
use crate::qmp::command::{GetFd, NetdevAdd, Vhost};
use crate::sandbox::CardRecord;

/// Named descriptors for QEMU. The names contain the suffix of the card, because QEMU silently closes
/// a descriptor whose name is sent again.
pub(super) struct Descriptors {
    queues: Vec<(String, OwnedFd)>,
    /// One per queue, or empty.
    vhost: Vec<(String, OwnedFd)>,
}

impl Descriptors {
    /// Names the queues of a TAP and opens vhost-net for each, where the host has it. Without
    /// vhost-net QEMU moves the packets itself.
    pub(super) fn new(suffix: &str, queues: Vec<OwnedFd>) -> Self {
        let named = |kind: char, fds: Vec<OwnedFd>| {
            let name = |index| format!("pb-{suffix}-{kind}{index}");
            let fds = fds.into_iter().enumerate();
            fds.map(|(index, fd)| (name(index), fd)).collect()
        };
        let open = |_| {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/vhost-net")
        };
        let vhost = queues.iter().map(|queue| open(queue).map(OwnedFd::from));
        let vhost = vhost.collect::<io::Result<_>>().unwrap_or_default();
        Self {
            queues: named('q', queues),
            vhost: named('v', vhost),
        }
    }

    /// Lists all names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.queues.iter().chain(&self.vhost);
        all.map(|(name, _)| name.as_str())
    }

    /// Sends the descriptors and adds the backend of the card.
    pub(super) fn add_backend(&self, qmp: &mut Session, card: &CardRecord) -> Result<(), Failure> {
        for (fdname, fd) in self.queues.iter().chain(&self.vhost) {
            qmp.run_with_fd(&GetFd { fdname }, fd.as_fd())
                .map_err(|error| Failure::from(error).context("could not hand the TAP to QEMU"))?;
        }
        let backend = NetdevAdd {
            r#type: "tap",
            id: &card.netdev_id(),
            fds: joined(&self.queues),
            vhost: (!self.vhost.is_empty()).then(|| Vhost {
                vhost: true,
                vhostforce: true,
                vhostfds: joined(&self.vhost),
            }),
        };
        let added = qmp.run(&backend).map(drop);
        added.map_err(|error| Failure::from(error).context("could not add the card's backend"))
    }
}

/// Joins the names with colons; QEMU takes a comma for part of a name.
fn joined(fds: &[(String, OwnedFd)]) -> String {
    let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
    names.join(":")
}
