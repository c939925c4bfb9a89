//! TAP devices in the sandbox's network namespace.
//!
//! A TAP created here is not persistent: it ends with its last descriptor, even if this process or
//! QEMU dies.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, InvalidValue, LinkName, QueuePairs};

use crate::netns::{HostLink, HostLinkState, Namespace};
use crate::sandbox::SavedTap;

/// Flags that QEMU's virtio-net needs: TAP, no packet information, virtio header.
pub(super) const TAP: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
/// `_IOW('T', 202, int)` of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// TAP device, by its name in a network namespace.
#[derive(Debug)]
pub(crate) struct Tap {
    namespace: Namespace,
    device: LinkName,
}

impl Tap {
    /// Opens the namespace; the device need not exist.
    pub(super) fn new(netns: Option<&Path>, device: &LinkName) -> Result<Self, Failure> {
        Ok(Self {
            namespace: Namespace::open(netns)?,
            device: device.clone(),
        })
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
        let files = self.namespace.run(|| (0..pairs.get()).map(open).collect());
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
        let queues = files.into_iter().map(OwnedFd::from).collect();
        let saved = |HostLink { state, index, .. }| SavedTap {
            state,
            index: Some(index),
        };
        Ok((queues, link.map(saved)))
    }

    /// Sets the MTU and the administrative state.
    pub(super) fn set(&self, to: HostLinkState) -> Result<(), Failure> {
        self.set_link(self.present()?, to)
    }

    fn set_link(&self, link: HostLink, to: HostLinkState) -> Result<(), Failure> {
        let set = self.namespace.set_link(link, to);
        set.map_err(|error| self.failure(&error))
    }

    /// Restores the state of an existing device after QEMU has closed it, also under a new name. A
    /// device that is gone needs nothing, and one that is open serves another process.
    pub(super) fn restore(&self, to: SavedTap) -> Result<(), Failure> {
        let link = match to.index {
            Some(index) => self.namespace.link_at(index),
            None => self.namespace.link(&self.device),
        };
        match link.map_err(|error| self.failure(&error))? {
            Some(link) if link.is_tap && !link.has_carrier => self.set_link(link, to.state),
            _ => Ok(()),
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
        Ok(self.link()?.is_some_and(|link| link.is_tap))
    }

    fn link(&self) -> Result<Option<HostLink>, Failure> {
        let link = self.namespace.link(&self.device);
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
        if !link.is_tap {
            let message = format!("device '{}' exists and is not a TAP device", self.device);
            return Err(Failure::new(Kind::Invalid, message).with_field("device"));
        }
        // Another queue of a multi-queue TAP could be opened while another machine uses the first.
        if link.has_carrier {
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
        attach(file, self.device.as_bytes(), flags).map(drop)
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

/// Makes an open `/dev/net/tun` a queue of a device, which is created if it is missing. In the name of
/// a new device the kernel replaces `%d` by a free number. Returns the name.
pub(super) fn attach(
    queue: impl AsFd,
    name: impl AsRef<[u8]>,
    flags: i32,
) -> Result<String, Errno> {
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: flags.to_ne_bytes(),
        rest: [0; 20],
    };
    // A name has at most 15 bytes, so the closing NUL stays.
    for (to, from) in request.name.iter_mut().zip(name.as_ref()) {
        *to = *from;
    }
    let queue = queue.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no crate of the workspace has TUNSETIFF")]
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which lives until the call returns.
    let attached = unsafe { libc::ioctl(queue, TUNSETIFF, &raw mut request) };
    Errno::result(attached)?;
    let name = request.name.split(|byte| *byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

/// `struct ifreq` of `linux/if.h`. The 16-bit flags are the low half of `flags`.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: [u8; 4],
    rest: [u8; 20],
}

#[cfg(test)]
pub(super) mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use nix::sched::{CloneFlags, unshare};
    use patchbay_types::QueuePairs;

    use super::*;

    /// Runs a test in a new network namespace of its thread.
    pub(in crate::hotplug) fn in_netns(test: impl FnOnce(&IfName, Tap) + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                let device: IfName = "tap-test".parse().unwrap();
                let netns = Path::new("/proc/thread-self/ns/net");
                let tap = Tap::new(Some(netns), &LinkName::from(&device));
                test(&device, tap.unwrap());
            });
        });
    }

    /// Runs `ip` in the namespace of the calling thread and returns its output.
    pub(in crate::hotplug) fn ip(words: &[&str]) -> String {
        let done = std::process::Command::new("ip")
            .args(words)
            .output()
            .unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn open_creates_a_tap_that_ends_with_its_queues() {
        in_netns(|_, tap| {
            let pairs = QueuePairs::try_from(2).unwrap();
            let (queues, before) = tap.open(pairs).unwrap();
            assert_eq!((queues.len(), before), (2, None));
            let busy = tap.open(pairs).unwrap_err();
            assert_eq!((busy.kind(), busy.field()), (Kind::Exists, Some("device")));
            let up = HostLinkState {
                mtu: 9000,
                up: true,
            };
            tap.set(up).unwrap();
            assert_eq!(tap.link().unwrap().unwrap().state, up);
            // A device in use is not restored.
            let index = tap.link().unwrap().map(|link| link.index);
            let down = HostLinkState {
                mtu: 1500,
                up: false,
            };
            tap.restore(SavedTap { state: down, index }).unwrap();
            assert_eq!(tap.link().unwrap().unwrap().state, up);
            drop(queues);
            assert!(tap.link().unwrap().is_none());
            tap.restore(SavedTap { state: up, index }).unwrap();
        });
    }

    #[test]
    fn open_reports_and_restore_resets_existing_state() {
        in_netns(|device, tap| {
            let device = device.as_str();
            ip(&["tuntap", "add", device, "mode", "tap", "multi_queue"]);
            let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
            let down = HostLinkState {
                mtu: 1500,
                up: false,
            };
            let before = before.unwrap();
            assert_eq!(before.state, down);
            tap.set(HostLinkState {
                mtu: 1400,
                up: true,
            })
            .unwrap();
            drop(queues);
            ip(&["link", "set", device, "down"]);
            ip(&["link", "set", device, "name", "tap-new"]);
            ip(&["tuntap", "add", device, "mode", "tap"]);
            ip(&["link", "set", device, "mtu", "1300"]);
            tap.restore(before).unwrap();
            let renamed = tap.namespace.link_at(before.index.unwrap()).unwrap();
            assert_eq!(renamed.unwrap().state, down);
            let later = tap.link().unwrap().unwrap();
            assert_eq!(later.state.mtu, 1300);
        });
    }

    #[test]
    fn open_existing_device_has_any_name_and_new_one_that_of_the_guide() {
        in_netns(|_, tap| {
            let mut tap = tap;
            for name in ["wg=0", r"tap\xff", "0tap"] {
                tap.device = name.parse().unwrap();
                let failure = tap.open(QueuePairs::ONE).unwrap_err();
                assert_eq!(
                    (failure.kind(), failure.field()),
                    (Kind::Invalid, Some("device"))
                );
                assert!(
                    failure.to_string().contains("starts with a letter"),
                    "{failure}"
                );
                let device = OsStr::from_bytes(tap.device.as_bytes());
                let mut add = std::process::Command::new("ip");
                add.args(["tuntap", "add", "mode", "tap", "name"])
                    .arg(device);
                assert!(add.status().unwrap().success());
                let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
                assert_eq!((queues.len(), before.is_some()), (1, true), "{name}");
            }
        });
    }

    #[test]
    fn open_device_whose_alias_is_not_utf8_succeeds() {
        in_netns(|device, tap| {
            let script = format!(
                "ip tuntap add {device} mode tap && \
                 ip link set {device} alias $(printf '\\377\\376')"
            );
            let mut shell = std::process::Command::new("sh");
            assert!(shell.args(["-c", &script]).status().unwrap().success());
            let (queues, before) = tap.open(QueuePairs::ONE).unwrap();
            assert_eq!(
                (queues.len(), before.map(|before| before.state.up)),
                (1, Some(false))
            );
        });
    }

    #[test]
    fn open_link_of_another_kind_fails() {
        in_netns(|_, tap| {
            let tap = Tap {
                device: "lo".parse().unwrap(),
                ..tap
            };
            let failure = tap.open(QueuePairs::ONE).unwrap_err();
            assert_eq!(
                failure.to_string(),
                "device 'lo' exists and is not a TAP device"
            );
        });
    }

    #[test]
    fn namespace_that_is_a_file_is_rejected() {
        let failure = Namespace::open(Some(Path::new("/proc/version"))).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "/proc/version is not a network namespace"
        );
        let failure = Namespace::open(Some(Path::new("/run/netns/none"))).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
    }
}
