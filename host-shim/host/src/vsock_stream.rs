//! Connections to ports of a guest.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, VsockAddr, bind, connect as connect_to,
    getsockopt, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use patchbay_types::endpoint::Endpoint;
use vsock::{VMADDR_CID_ANY, VsockStream};

/// Connected stream.
#[derive(Debug)]
pub enum Stream {
    /// vsock of the host's kernel.
    Vsock(VsockStream),
    /// Unix socket, after the handshake of hybrid vsock.
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

/// Connects to an endpoint. `timeout` limits the connection and the handshake of hybrid vsock, each;
/// the kernel's vsock has a fixed timeout of two seconds.
///
/// # Errors
/// Errors of the socket; `ConnectionRefused` if the guest does not listen on the port,
/// `NotConnected` if the proxy of hybrid vsock is dead.
pub fn connect(endpoint: &Endpoint, timeout: Duration) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Vsock { cid, port } => vsock_from_privileged_port(*cid, *port).map(Stream::Vsock),
        Endpoint::Unix(path) => unix(path, timeout).map(Stream::Unix),
        Endpoint::Hybrid { path, port } => {
            let stream = unix(path, timeout).map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    dead_proxy("has ended")
                }
                _ => error,
            })?;
            stream.set_write_timeout(Some(timeout))?;
            handshake(&stream, *port, Instant::now() + timeout).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                        if has_idle_proxy(&stream) =>
                    {
                        dead_proxy("has lost its worker")
                    }
                    // A connection that was still in its queue.
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                        dead_proxy("has ended")
                    }
                    // Linux reports the timeout of a socket as EAGAIN.
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

/// Connects from a port below 1024, which only a privileged process of this host can bind: to the guest
/// every process of the host has the same CID. Without the privilege the kernel chooses a port.
fn vsock_from_privileged_port(cid: u32, port: u32) -> io::Result<VsockStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    // Another order in each process, so that a port isn't reused while the guest still closes it.
    let offset = std::process::id();
    let ports = (0..PRIVILEGED_PORTS).map(|step| FIRST_SOURCE + (step + offset) % PRIVILEGED_PORTS);
    for source in ports {
        let bound = bind(socket.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, source));
        if bound != Err(Errno::EADDRINUSE) {
            break;
        }
    }
    connect_to(socket.as_raw_fd(), &VsockAddr::new(cid, port))?;
    Ok(socket.into())
}

/// First of the source ports; lower ones are left to servers on the host.
const FIRST_SOURCE: u32 = 512;
/// Number of source ports, up to 1023.
const PRIVILEGED_PORTS: u32 = 512;

fn dead_proxy(state: &str) -> io::Error {
    let message = format!(
        "the vsock proxy {VSOCK_PROXY} {state}, and QEMU can't reconnect to a new one: stop the sandbox and \
         start it again"
    );
    io::Error::new(io::ErrorKind::NotConnected, message)
}

fn has_idle_proxy(stream: &UnixStream) -> bool {
    let credentials = getsockopt(stream, PeerCredentials);
    let pid = credentials.map(|credentials| credentials.pid().cast_unsigned());
    pid.is_ok_and(has_lost_worker)
}

/// Program that serves hybrid vsock for QEMU.
pub const VSOCK_PROXY: &str = "vhost-device-vsock";
/// Maximum length of the name of a thread.
const MAX_COMM_BYTES: usize = 15;

/// Returns whether the process is a [`VSOCK_PROXY`] without its worker: version 0.3 panics if a
/// connection is closed before the guest has accepted it, and goes on without serving.
#[must_use]
pub fn has_lost_worker(pid: u32) -> bool {
    let name = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let process = name(PathBuf::from(format!("/proc/{pid}/comm")));
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names = threads.map(|thread| name(thread.path().join("comm")));
    process.trim_end() == &VSOCK_PROXY[..MAX_COMM_BYTES]
        && !names.any(|name| name.trim_end() == "vring_worker")
}

/// Limit for a connection that only shows whether a process listens.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// Returns whether no process listens on a socket, or there is none.
pub(crate) fn is_closed(socket: &Path) -> bool {
    let kind = unix(socket, PROBE_TIMEOUT).map_err(|error| error.kind());
    matches!(
        kind,
        Err(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    )
}

/// Maximum length of `sun_path` without its closing NUL.
pub(crate) const MAX_PATH_BYTES: usize = 107;

/// Connects to a Unix socket, also if its path exceeds the limit of socket addresses, as in the
/// bundles of containerd.
///
/// # Errors
/// Errors of the socket; `TimedOut` if the listener's backlog stays full, as that of a monitor with
/// another client. A plain `connect` would block forever.
pub fn unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let folder = match path.parent() {
        Some(folder) if path.as_os_str().len() > MAX_PATH_BYTES => Some(File::open(folder)?),
        _ => None,
    };
    let short = folder.as_ref().zip(path.file_name()).map(|(folder, name)| {
        PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
    });
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    // The send timeout applies to `connect` too.
    let timeout = TimeVal::new(seconds, timeout.subsec_micros().into());
    setsockopt(&socket, SendTimeout, &timeout)?;
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

/// Length of the longest reply, `OK 4294967295` and a line end, rounded up.
const MAX_REPLY_BYTES: usize = 16;

/// Requests a port of hybrid vsock.
pub(crate) fn handshake(mut stream: &UnixStream, port: u32, deadline: Instant) -> io::Result<()> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut reply = Vec::new();
    // Byte by byte, because the data after the line belongs to the stream.
    while reply.len() < MAX_REPLY_BYTES && !reply.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            break;
        }
        reply.extend(byte);
    }
    if reply.starts_with(b"OK ") && reply.ends_with(b"\n") {
        return Ok(());
    }
    let refused = format!("port {port} of the guest was not opened");
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_full_backlog_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full");
        let flags = SockFlag::SOCK_CLOEXEC;
        let full = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        nix::sys::socket::bind(full.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let timeout = Duration::from_millis(200);
        let waiting: Vec<_> = (0..3).map(|_| unix(&path, timeout)).collect();
        let error = waiting.into_iter().find_map(Result::err).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn handshake_leaves_following_data_unread() {
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
    fn unix_connects_to_overlong_path() {
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
    fn connect_slow_handshake_times_out() {
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
    fn connect_without_proxy_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        for path in [path, dir.path().join("none")] {
            let endpoint = Endpoint::Hybrid { path, port: 1061 };
            let error = connect(&endpoint, Duration::from_secs(1)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
            assert!(
                error.to_string().contains("vhost-device-vsock has ended"),
                "{error}"
            );
        }
    }

    #[test]
    fn handshake_bad_reply_is_refused() {
        for reply in ["", "NO\n", "OK 1", "a line that is much too long\n"] {
            let (host, mut guest) = UnixStream::pair().unwrap();
            guest.write_all(reply.as_bytes()).unwrap();
            guest.shutdown(std::net::Shutdown::Write).unwrap();
            let error = handshake(&host, 1061, soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{reply:?}");
        }
    }
}
