//! Network namespaces of the host.
//!
//! A namespace is a file, not a name: `ip netns` can delete a name and give it to another namespace.
//! So a namespace is opened once, everything in it goes through the open file, and a [`NetnsId`] in the
//! journal recognizes it later:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use patchbay_host::netns::Netns;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let netns = Netns::open(Path::new("/run/netns/blue"))?;
//! let recorded = netns.id();
//! // A socket stays in the namespace in which it was created.
//! let socket = netns.run(|| std::net::UdpSocket::bind("127.0.0.1:0"))?;
//! assert_eq!(Netns::open(Path::new("/run/netns/blue"))?.id(), recorded);
//! # Ok(())
//! # }
//! ```

mod links;
pub(crate) mod rtnl;
pub(crate) mod vlans;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use patchbay_types::failure::{Failure, Kind};
use serde::{Deserialize, Serialize};

pub use links::Counters;
pub(crate) use links::{HostLink, HostLinkKind, HostLinkState, LinkCounters, Links, link_request};
pub(crate) use rtnl::Rtnetlink;
pub(crate) use vlans::VlanMembership;

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
/// Namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Namespace of the first process, which is that of the host.
const FIRST: &str = "/proc/1/ns/net";

/// Identity of a network namespace until the host restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    #[serde(rename = "dev")]
    device: u64,
    #[serde(rename = "ino")]
    inode: u64,
    /// `SO_NETNS_COOKIE`, which is never reused: the kernel gives the inode number of a namespace that
    /// has ended to the next one. `None` before Linux 5.14.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
}

/// Network namespace, held open.
#[derive(Debug)]
pub struct Netns {
    /// `None`: the caller's, which needs no right to enter it.
    file: Option<File>,
    path: PathBuf,
    id: NetnsId,
}

impl Netns {
    /// Opens the namespace at this path.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the file, [`Kind::Invalid`] for a file that is not a network
    /// namespace, [`Kind::Denied`] without the right to enter it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = open_nsfs(path).map_err(|error| unusable(path, &error))?;
        let file = file.ok_or_else(|| not_a_namespace(path))?;
        let id = identify(&file, Some(&file)).map_err(|error| match error.raw_os_error() {
            // A namespace of another type.
            Some(libc::EINVAL) => not_a_namespace(path),
            _ => unusable(path, &error),
        })?;
        Ok(Self {
            file: Some(file),
            path: path.to_owned(),
            id,
        })
    }

    /// Opens the namespace of the calling thread.
    ///
    /// # Errors
    /// A host without `/proc`.
    pub fn current() -> Result<Self, Failure> {
        let path = Path::new(OWN);
        let id = File::open(path).and_then(|file| identify(&file, None));
        Ok(Self {
            file: None,
            path: path.to_owned(),
            id: id.map_err(|error| unusable(path, &error))?,
        })
    }

    /// Opens the namespace at a path, or that of the calling thread.
    ///
    /// # Errors
    /// Those of [`Netns::open`].
    pub fn open_or_current(path: Option<&Path>) -> Result<Self, Failure> {
        path.map_or_else(Self::current, Self::open)
    }

    /// Opens that of the host, or the caller's if it is another one, with the path at which other
    /// commands find it.
    pub(crate) fn of_host() -> Result<Self, Failure> {
        let own = Self::open(Path::new(OWN))?;
        // Another namespace of processes can hide the host's first one.
        match Self::open(Path::new(FIRST)) {
            Ok(first) if first.id == own.id => Ok(first),
            _ => Ok(own),
        }
    }

    /// Returns the path at which it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the identity.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Returns whether an open file is this namespace.
    pub(crate) fn is_same_file(&self, file: impl AsFd) -> io::Result<bool> {
        let file = fstat(file)?;
        Ok((file.st_dev, file.st_ino) == (self.id.device, self.id.inode))
    }

    /// Returns whether a path leads to this namespace.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let file = fs::metadata(path)?;
        Ok((file.dev(), file.ino()) == (self.id.device, self.id.inode))
    }

    /// Runs `work` inside the namespace.
    ///
    /// # Errors
    /// That of `work`, and a namespace that can't be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        run_in(self.file.as_ref(), work)
    }
}

/// Opens a file for `setns`; `None` if it is not in nsfs.
fn open_nsfs(path: &Path) -> io::Result<Option<File>> {
    let open = |path: &Path, flags| {
        let mut options = File::options();
        options.read(true).custom_flags(flags).open(path)
    };
    // Opening a FIFO would wait for its other end, and opening a device can have an effect.
    let node = open(path, libc::O_PATH)?;
    if fstatfs(&node)?.filesystem_type() != NSFS_MAGIC {
        return Ok(None);
    }
    let node = format!("/proc/self/fd/{}", node.as_raw_fd());
    open(Path::new(&node), libc::O_NONBLOCK).map(Some)
}

fn identify(file: &File, enter: Option<&File>) -> io::Result<NetnsId> {
    let cookie = run_in(enter, || {
        let kind = SockType::Datagram;
        let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
        match cookie(&socket) {
            // qemu-user, which passes on 4 bytes for each option that it doesn't know, has the second one.
            Err(Errno::ENOPROTOOPT | Errno::EINVAL) => Ok(None),
            cookie => Ok(Some(cookie?)),
        }
    })?;
    let file = file.metadata()?;
    Ok(NetnsId {
        device: file.dev(),
        inode: file.ino(),
        cookie,
    })
}

/// Reads the cookie of a socket's network namespace.
fn cookie(socket: &OwnedFd) -> Result<u64, Errno> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = size_of_val(&cookie).try_into().map_err(|_| Errno::EINVAL)?;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_NETNS_COOKIE);
    let (socket, value) = (socket.as_raw_fd(), (&raw mut cookie).cast());
    #[expect(unsafe_code, reason = "no crate of the workspace has SO_NETNS_COOKIE")]
    // SAFETY: the kernel writes at most `length` bytes, the size of `cookie`; both live until then.
    let got = unsafe { libc::getsockopt(socket, level, option, value, &raw mut length) };
    Errno::result(got).map(|_| cookie)
}

fn not_a_namespace(path: &Path) -> Failure {
    let message = format!("{} is not a network namespace", path.display());
    Failure::new(Kind::Invalid, message)
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let message = format!("could not enter the network namespace {}", path.display());
    Failure::of_io(message, error)
}

/// Runs `work` in the namespace, on a thread that ends with it: `setns` moves the calling thread, and
/// returning from the namespace could fail.
fn run_in<T: Send>(
    namespace: Option<&File>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(file) = namespace else {
        return work();
    };
    let enter_and_work = || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    let done = thread::scope(|scope| {
        let started = thread::Builder::new().spawn_scoped(scope, enter_and_work)?;
        Ok::<_, io::Error>(started.join())
    });
    done?.unwrap_or_else(|_| {
        Err(io::Error::other(
            "internal error: the namespace thread panicked",
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::sched::unshare;
    use nix::sys::stat::Mode;

    use super::*;

    fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    #[test]
    fn open_file_that_is_no_namespace_fails_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [
            &fifo,
            Path::new("/proc/version"),
            Path::new("/proc/self/ns/mnt"),
        ] {
            let failure = Netns::open(path).unwrap_err();
            assert_eq!(failure.kind(), Kind::Invalid);
            let message = format!("{} is not a network namespace", path.display());
            assert_eq!(failure.to_string(), message);
        }
        let failure = Netns::open(Path::new("/run/netns/none")).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
    }

    #[test]
    fn id_is_that_of_the_open_file_and_of_no_later_namespace() {
        let own = Path::new(OWN);
        let mut earlier: Vec<NetnsId> = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut is_reused = false;
        while !is_reused {
            assert!(Instant::now() < deadline, "no inode number was reused");
            let id = in_new_netns(|| {
                let (current, opened) = (Netns::current().unwrap(), Netns::open(own).unwrap());
                assert_eq!(current.id(), opened.id());
                assert!(opened.is_same_file(File::open(own).unwrap()).unwrap());
                opened.id()
            });
            assert!(!earlier.contains(&id), "{id:?}");
            is_reused = earlier.iter().any(|earlier| earlier.inode == id.inode);
            earlier.push(id);
        }
    }

    #[test]
    fn run_enters_the_namespace_that_was_opened() {
        let netns = in_new_netns(|| Netns::open(Path::new(OWN)).unwrap());
        let inside = netns
            .run(|| Ok(File::open(OWN)?.metadata()?.ino()))
            .unwrap();
        assert_eq!(inside, netns.id().inode);
    }
}
