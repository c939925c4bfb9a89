//! Connecting to a port of a guest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use patchbay_types::endpoint::Endpoint;
use vsock::VsockStream;

/// A connected stream of one of the kinds.
#[derive(Debug)]
pub enum Stream {
    /// Through the host's kernel.
    Vsock(VsockStream),
    /// Through a Unix socket, past its handshake if it has one.
    Unix(UnixStream),
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Vsock(stream) => stream.into(),
            Stream::Unix(stream) => stream.into(),
        }
    }
}

/// Connects; the connection and the whole of a hybrid handshake may take `patience` each. The
/// kernel's own vsock gives up after two seconds.
///
/// # Errors
/// Those of the socket; `ConnectionRefused` when nobody listens on that port in the guest.
pub fn connect(endpoint: &Endpoint, patience: Duration) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Vsock { cid, port } => {
            VsockStream::connect_with_cid_port(*cid, *port).map(Stream::Vsock)
        }
        Endpoint::Unix(path) => unix(path, patience).map(Stream::Unix),
        Endpoint::Hybrid { path, port } => {
            let stream = unix(path, patience)?;
            stream.set_write_timeout(Some(patience))?;
            handshake(&stream, *port, Instant::now() + patience).map_err(|error| {
                match error.kind() {
                    // The name that a timeout of a socket has on Linux says little.
                    io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
                    _ => error,
                }
            })?;
            stream.set_read_timeout(None)?;
            stream.set_write_timeout(None)?;
            Ok(Stream::Unix(stream))
        }
    }
}

/// Longest path in the address of a Unix socket, in bytes: `sun_path` without its end.
const MAX_PATH: usize = 107;

/// Connects to a Unix socket within `patience`, whatever the length of its path: a containerd
/// bundle's is longer than an address takes.
///
/// # Errors
/// Those of the socket; `TimedOut` when the listener has too many connections waiting. Such a
/// `connect` would block for ever: a monitor that is held accepts nobody.
pub fn unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let folder = match path.parent() {
        Some(folder) if path.as_os_str().len() > MAX_PATH => Some(File::open(folder)?),
        _ => None,
    };
    let short = folder.as_ref().zip(path.file_name()).map(|(folder, name)| {
        PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
    });
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    // The kernel has the send timeout count for `connect` too.
    let patience = TimeVal::new(seconds, patience.subsec_micros().into());
    setsockopt(&socket, SendTimeout, &patience)?;
    match connect_to(
        socket.as_raw_fd(),
        &UnixAddr::new(short.as_deref().unwrap_or(path))?,
    ) {
        Ok(()) => {}
        Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
        Err(errno) => return Err(errno.into()),
    }
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(None)?;
    Ok(stream)
}

/// The longest answer is `OK 4294967295` and a line end.
const LONGEST_ANSWER: usize = 16;

pub fn handshake(mut stream: &UnixStream, port: u32, deadline: Instant) -> io::Result<()> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the line belongs to the stream.
    while answer.len() < LONGEST_ANSWER && !answer.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_accepts_nobody_is_left_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full");
        let flags = SockFlag::SOCK_CLOEXEC;
        let full = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        nix::sys::socket::bind(full.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let patience = Duration::from_millis(200);
        let waiting: Vec<_> = (0..3).map(|_| unix(&path, patience)).collect();
        let error = waiting.into_iter().find_map(Result::err).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn the_handshake_leaves_what_follows_unread() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(b"OK 1024\nhello").unwrap();
        handshake(&host, 1061, soon()).unwrap();
        let mut rest = [0; 5];
        (&host).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"hello");
        let mut sent = [0; 13];
        guest.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"CONNECT 1061\n");
    }

    #[test]
    fn a_path_that_is_too_long_for_an_address_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let short = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&short).unwrap();
        let deep = dir.path().join("d".repeat(60)).join("e".repeat(60));
        std::fs::create_dir_all(&deep).unwrap();
        std::os::unix::fs::symlink(&short, deep.join("qmp.sock")).unwrap();
        unix(&deep.join("qmp.sock"), Duration::from_secs(1)).unwrap();
        let missing = unix(&deep.join("none"), Duration::from_secs(1)).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_answer_by_drops_is_left_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for byte in "OK 123456789\n".bytes() {
                std::thread::sleep(Duration::from_millis(100));
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
            }
        });
        let endpoint = Endpoint::Hybrid { path, port: 1061 };
        let error = connect(&endpoint, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_closed_or_odd_answer_is_a_refusal() {
        for answer in ["", "NO\n", "OK 1", "a line that is much too long\n"] {
            let (host, mut guest) = UnixStream::pair().unwrap();
            guest.write_all(answer.as_bytes()).unwrap();
            guest.shutdown(std::net::Shutdown::Write).unwrap();
            let error = handshake(&host, 1061, soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{answer:?}");
        }
    }
}
