//! Reaching the guest over vsock: which way this host has, the address, connecting.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use vsock::VsockStream;

/// The program that stands in for the kernel's vhost-vsock.
pub const DAEMON: &str = "vhost-device-vsock";

/// How the host reaches a guest's vsock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestAddress {
    /// `hvsock://PATH`: through the Unix socket of a vhost-user daemon ("hybrid vsock").
    Hybrid(PathBuf),
    /// `vsock://CID`: through the host kernel.
    Kernel(u32),
}

/// Text that is no address of a guest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no guest address (hvsock:///PATH:PORT or vsock://CID:PORT).")]
pub struct BadAddress(String);

impl GuestAddress {
    /// The way of this host for a new sandbox: the kernel's device when it opens, else the daemon.
    #[must_use]
    pub fn choose(socket: &Path) -> Self {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/vhost-vsock");
        match device {
            Ok(_) => Self::Kernel(random_cid()),
            Err(_) => Self::Hybrid(socket.to_owned()),
        }
    }

    /// The URL of one port.
    #[must_use]
    pub fn url(&self, port: u32) -> String {
        format!("{self}:{port}")
    }

    /// Connects to a port; every step may take `timeout`.
    ///
    /// The result reads and writes the raw stream: a `File` because that is what any descriptor
    /// can become without unsafe code.
    pub fn connect(&self, port: u32, timeout: Duration) -> io::Result<File> {
        match self {
            Self::Kernel(cid) => {
                let stream = VsockStream::connect_with_cid_port(*cid, port)?;
                Ok(OwnedFd::from(stream).into())
            }
            Self::Hybrid(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                greet(&stream, port)?;
                stream.set_read_timeout(None)?;
                stream.set_write_timeout(None)?;
                Ok(OwnedFd::from(stream).into())
            }
        }
    }
}

/// The longest answer is `OK 4294967295` and a line end.
const LONGEST_ANSWER: usize = 16;

fn greet(mut stream: &UnixStream, port: u32) -> io::Result<()> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the line belongs to the caller.
    while answer.len() < LONGEST_ANSWER && !answer.ends_with(b"\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            break;
        }
        answer.extend(byte);
    }
    if answer.starts_with(b"OK ") && answer.ends_with(b"\n") {
        return Ok(());
    }
    let refused = format!("port {port} of the guest was not opened");
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, refused))
}

/// CIDs are shared by the whole host, and nobody hands them out: chance avoids the others.
fn random_cid() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    // 0 to 2 and the highest are taken by the kernel.
    let offset = random % u64::from(u32::MAX - 3);
    u32::try_from(offset).unwrap_or_default() + 3
}

impl fmt::Display for GuestAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hybrid(path) => write!(formatter, "hvsock://{}", path.display()),
            Self::Kernel(cid) => write!(formatter, "vsock://{cid}"),
        }
    }
}

impl FromStr for GuestAddress {
    type Err = BadAddress;

    /// Reads the URL of any port; the port is dropped.
    fn from_str(url: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(url.to_owned());
        let (rest, port) = url.rsplit_once(':').ok_or_else(bad)?;
        port.parse::<u32>().map_err(|_| bad())?;
        match rest.split_once("://") {
            Some(("hvsock", path)) if path.starts_with('/') => Ok(Self::Hybrid(path.into())),
            Some(("vsock", cid)) => cid.parse().map(Self::Kernel).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_back() {
        for address in [
            GuestAddress::Hybrid("/run/x:1/v.sock".into()),
            GuestAddress::Kernel(9),
        ] {
            assert_eq!(address.url(1061).parse(), Ok(address));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "vsock://9",
            "vsock://x:1",
            "hvsock://rel:1",
            "http:///x:1",
            "vsock://9:x",
        ] {
            assert_eq!(url.parse::<GuestAddress>(), Err(BadAddress(url.to_owned())));
        }
    }

    #[test]
    fn greeting_leaves_what_follows_unread() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(b"OK 1024\nhello").unwrap();
        greet(&host, 1061).unwrap();
        let mut rest = [0; 5];
        (&host).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"hello");
        let mut sent = [0; 13];
        guest.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"CONNECT 1061\n");
    }

    #[test]
    fn closed_or_odd_answer_is_a_refusal() {
        for answer in ["", "NO\n", "OK 1", "a line that is much too long\n"] {
            let (host, mut guest) = UnixStream::pair().unwrap();
            guest.write_all(answer.as_bytes()).unwrap();
            guest.shutdown(std::net::Shutdown::Write).unwrap();
            let error = greet(&host, 1061).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{answer:?}");
        }
    }
}
