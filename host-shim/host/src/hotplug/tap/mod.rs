//! TAP devices in the sandbox's network namespace.
//!
//! A TAP created here is not persistent: it ends with its last descriptor, even if this process or
//! QEMU dies.

mod port;
mod port_vlan;
pub(super) mod tun;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, InvalidValue, LinkName, QueuePairs};

use crate::netns::{HostLink, HostLinkState, Links, Netns, NetnsId, Rtnetlink};
use crate::sandbox::{PortRecord, SavedTap};
use crate::shaper::Shaper;
pub(crate) use port::netns_of_bridge;
use tun::TAP;

/// Time for the kernel to close a TAP. It reports the carrier within a second.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// TAP device, by its name in a network namespace.
#[derive(Debug)]
pub(crate) struct Tap {
    links: Links,
    device: LinkName,
}

impl Tap {
    /// Names a device in a namespace; it need not exist.
    pub(super) fn new(netns: Netns, device: &LinkName) -> Result<Self, Failure> {
        Ok(Self {
            links: Links::open(netns)?,
            device: device.clone(),
        })
    }

    pub(super) fn device(&self) -> &LinkName {
        &self.device
    }

    /// Returns the identity of the namespace.
    pub(super) fn netns(&self) -> NetnsId {
        self.links.netns().id()
    }

    /// Opens one queue per pair, and creates the device if it is missing. Returns the queues and
    /// the state of a device that existed.
    pub(super) fn open(
        &self,
        pairs: QueuePairs,
    ) -> Result<(Vec<OwnedFd>, Option<SavedTap>), Failure> {
        let link = self.link()?;
        match link {
            Some(link) => self.check_usable(link)?,
            None => self.check_new_name()?,
        }
        // A queue belongs to the namespace in which its file was opened.
        let open = |_| File::options().read(true).write(true).open("/dev/net/tun");
        let files = self
            .links
            .netns()
            .run(|| (0..pairs.get()).map(open).collect());
        let files: Vec<File> = files.map_err(|error| self.failure(&error))?;
        let multi_queue = match pairs {
            QueuePairs::ONE => 0,
            _ => libc::IFF_MULTI_QUEUE,
        };
        for (index, file) in files.iter().enumerate() {
            match (index, link) {
                (0, None) => self.attach(file, TAP | multi_queue | libc::IFF_TUN_EXCL),
                (0, Some(_)) if multi_queue == 0 => self.attach_single(file),
                _ => self.attach(file, TAP | multi_queue),
            }
            .map_err(|errno| self.attach_failure(errno, link, pairs))?;
        }
        self.check_attached(&files, link)?;
        let queues = files.into_iter().map(OwnedFd::from).collect();
        let saved = |HostLink { state, index, .. }| SavedTap {
            state,
            index: Some(index),
        };
        Ok((queues, link.map(saved)))
    }

    /// Creates the device, with one queue per pair.
    ///
    /// # Errors
    /// [`Kind::Exists`] if there is a device of this name.
    pub(super) fn create(&self, pairs: QueuePairs) -> Result<Vec<OwnedFd>, Failure> {
        match self.link()? {
            Some(_) => Err(self.busy()),
            None => self.open(pairs).map(|(queues, _)| queues),
        }
    }

    /// Returns the index of the device.
    pub(super) fn index(&self) -> Result<u32, Failure> {
        Ok(self.present()?.index)
    }

    /// Keeps the kernel of the host from giving the device an IPv6 address and from sending packets to the
    /// guest through it. Has an effect only before it is set up.
    pub(super) fn silence(&self) -> Result<(), Failure> {
        let link = self.present()?;
        let silenced = self.links.without_ipv6_addresses(link);
        silenced.map_err(|error| self.failure(&error))
    }

    /// Returns the links of its network namespace.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Returns its bandwidth limits.
    pub(super) fn shaper(&self) -> Result<Shaper<'_>, Failure> {
        Ok(Shaper {
            links: &self.links,
            tap: self.index()?,
        })
    }

    /// Opens an rtnetlink socket in its network namespace.
    pub(super) fn rtnetlink(&self) -> Result<Rtnetlink, Failure> {
        Rtnetlink::open(self.links.netns()).map_err(|error| self.failure(&error))
    }

    /// Sets the MTU and the administrative state.
    pub(super) fn set(&self, to: HostLinkState) -> Result<(), Failure> {
        self.set_link(self.present()?, to)
    }

    fn set_link(&self, link: HostLink, to: HostLinkState) -> Result<(), Failure> {
        let set = self.links.set_link(link, to);
        set.map_err(|error| self.failure(&error))
    }

    /// Restores the state of an existing device after QEMU has closed it, also under a new name, and takes
    /// it out of its bridge. A device that is gone needs nothing, and one that stays open serves another process. The kernel can
    /// close the last reference of a QEMU that was killed, by `vhost` or `io_uring`, after its end.
    pub(super) fn restore(&self, to: SavedTap, port: Option<&PortRecord>) -> Result<(), Failure> {
        let closed = self.saved_link(to).and_then(|link| match link {
            Some(link) if link.is_tap() && link.has_carrier => {
                self.links.wait_until_closed(link.index, CLOSE_TIMEOUT)
            }
            link => Ok(link),
        });
        match closed.map_err(|error| self.failure(&error))? {
            Some(link) if link.is_tap() && !link.has_carrier => {
                let link = port.map_or(Ok(link), |port| self.leave(link, port))?;
                self.set_link(link, to.state)
            }
            _ => Ok(()),
        }
    }

    /// Reads the device that existed before its card, also under a new name; `None` if it is gone.
    pub(super) fn saved_link(&self, saved: SavedTap) -> io::Result<Option<HostLink>> {
        match saved.index {
            Some(index) => self.links.link_at(index),
            None => self.links.link(&self.device),
        }
    }

    /// Reads the MTU.
    pub(crate) fn mtu(&self) -> Result<u32, Failure> {
        Ok(self.present()?.state.mtu)
    }

    /// Sets the MTU.
    pub(crate) fn set_mtu(&self, mtu: u32) -> Result<(), Failure> {
        let link = self.present()?;
        let to = HostLinkState { mtu, ..link.state };
        self.set_link(link, to)
    }

    fn present(&self) -> Result<HostLink, Failure> {
        let gone = || self.failure(&io::Error::from_raw_os_error(libc::ENODEV));
        self.link()?.ok_or_else(gone)
    }

    /// Returns whether a TAP of this name exists.
    pub(super) fn exists(&self) -> Result<bool, Failure> {
        Ok(self.link()?.is_some_and(|link| link.is_tap()))
    }

    pub(super) fn link(&self) -> Result<Option<HostLink>, Failure> {
        let link = self.links.link(&self.device);
        link.map_err(|error| self.failure(&error))
    }

    /// Applies the stricter rule for the name of a device that has to be created.
    fn check_new_name(&self) -> Result<(), Failure> {
        let name: Result<IfName, InvalidValue> = self.device.to_string().parse();
        name.map(drop).map_err(|invalid| {
            let failure = Failure::from(invalid.in_field("device"));
            failure.with_cause("there is no such device, and a new one needs a name by this rule")
        })
    }

    /// Rejects a device before `TUNSETIFF` changes its flags.
    fn check_usable(&self, link: HostLink) -> Result<(), Failure> {
        if !link.is_tap() {
            let message = format!("device '{}' exists and is not a TAP device", self.device);
            return Err(Failure::new(Kind::Invalid, message).with_field("device"));
        }
        // Another queue of a multi-queue TAP could be opened while another machine uses the first.
        if link.has_carrier {
            return Err(self.busy());
        }
        Ok(())
    }

    /// Checks that the queues are the only ones of the device that was found by its name: another
    /// process can have replaced it, or opened it at the same time.
    fn check_attached(&self, queues: &[File], before: Option<HostLink>) -> Result<(), Failure> {
        let failed = |errno: Errno| self.failure(&errno.into());
        let mut is_same = true;
        for queue in queues {
            is_same &= tun::name(queue).map_err(failed)? == self.device;
            if let Some(netns) = tun::netns(queue).map_err(failed)? {
                let found = self.links.netns().is_same_file(netns);
                is_same &= found.map_err(|error| self.failure(&error))?;
            }
        }
        let link = self.present()?;
        if !is_same || before.is_some_and(|before| before.index != link.index) {
            let message = format!("device '{}' was replaced while it was opened", self.device);
            return Err(Failure::new(Kind::NotYet, message).with_field("device"));
        }
        if link
            .queues
            .is_some_and(|open| open as usize != queues.len())
        {
            return Err(self.busy());
        }
        Ok(())
    }

    /// Attaches the only queue; the kernel requires the multi-queue flag of an existing device.
    fn attach_single(&self, file: &File) -> Result<(), Errno> {
        match self.attach(file, TAP) {
            Err(Errno::EINVAL) => self.attach(file, TAP | libc::IFF_MULTI_QUEUE),
            attached => attached,
        }
    }

    /// Makes an open `/dev/net/tun` a queue of the device.
    fn attach(&self, file: &File, flags: i32) -> Result<(), Errno> {
        tun::attach(file, self.device.as_bytes(), flags).map(drop)
    }

    fn attach_failure(&self, errno: Errno, link: Option<HostLink>, pairs: QueuePairs) -> Failure {
        match errno {
            Errno::EBUSY if link.is_some() => self.busy(),
            Errno::EINVAL if link.is_some() && pairs != QueuePairs::ONE => {
                let message = format!(
                    "queues '{pairs}' is not allowed: the TAP device '{}' was made with one queue",
                    self.device
                );
                Failure::new(Kind::Invalid, message).with_field("queues")
            }
            errno => self.failure(&errno.into()),
        }
    }

    fn busy(&self) -> Failure {
        let message = format!("device '{}' is in use by another process", self.device);
        Failure::new(Kind::Exists, message).with_field("device")
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let message = format!("could not use the TAP device '{}'", self.device);
        Failure::of_io(message, error).with_field("device")
    }
}

#[cfg(test)]
pub(super) mod tests;
