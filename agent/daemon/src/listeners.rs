//! Sockets on which the agent serves the host.
//!
//! The guest's init holds them and hands them down as `LISTEN_FDS` (`sd_listen_fds(3)`), so the port is
//! never free for another process, and connections that arrive while the agent restarts wait.

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{self, Backlog, getsockopt, sockopt};
use patchbay_types::endpoint::DEFAULT_PORT;
use vsock::{VMADDR_CID_ANY, VsockListener};

use crate::config::Listen;

/// First descriptor of the protocol.
const FIRST_FD: RawFd = 3;
/// Maximum number of sockets; init has two.
const MAX_SOCKETS: u8 = 8;

/// Error that leaves the agent without a socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be bound.
    #[error("could not listen on {address}")]
    Bind {
        /// The address, as in `--listen`.
        address: String,
        /// Error of `bind` or `listen`.
        source: io::Error,
    },
    /// `LISTEN_FDS` has another value than a small number.
    #[error("LISTEN_FDS '{0}' is not allowed: it must be 1 to {MAX_SOCKETS}")]
    Count(String),
    /// A descriptor is not a vsock listener.
    #[error("descriptor {0} of LISTEN_FDS is not a vsock listener")]
    NotListening(RawFd),
}

/// Listening sockets.
#[derive(Debug)]
pub enum Listeners {
    /// Vsock ports, for the host.
    Vsock(Vec<VsockListener>),
    /// Unix socket: an agent without a VM.
    Unix(UnixListener),
}

impl Listeners {
    /// Binds the address; without one, takes the sockets of the service manager, or binds the default
    /// port. Must be called once, before other descriptors are opened.
    ///
    /// # Errors
    /// A port below 1024 needs `CAP_NET_BIND_SERVICE`.
    pub fn open(listen: Option<&Listen>) -> Result<Self, Error> {
        let failed = |listen: &Listen| {
            let address = listen.to_string();
            |source| Error::Bind { address, source }
        };
        match listen {
            None => match inherited_count()? {
                Some(count) => inherited(count),
                None => Self::open(Some(&Listen::Vsock(DEFAULT_PORT))),
            },
            Some(listen @ Listen::Vsock(port)) => bind_vsock(*port)
                .map(|listener| Self::Vsock(vec![listener]))
                .map_err(failed(listen)),
            Some(listen @ Listen::Unix(path)) => {
                // Removes the socket of an agent that was killed; the path is used by agents only.
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path)
                    .map(Self::Unix)
                    .map_err(failed(listen))
            }
        }
    }
}

impl Listeners {
    /// Returns the first vsock port.
    ///
    /// # Errors
    /// The listener is a Unix socket.
    pub fn port(&self) -> io::Result<u32> {
        match self {
            Self::Vsock(listeners) => match listeners.first() {
                Some(listener) => Ok(listener.local_addr()?.port()),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(listeners) => {
                let port = |listener: &VsockListener| listener.local_addr().map(|own| own.port());
                let ports = listeners.iter().flat_map(port);
                let texts: Vec<_> = ports.map(|port| Listen::Vsock(port).to_string()).collect();
                f.write_str(&texts.join(" "))
            }
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                let path = path.map_or_else(PathBuf::new, Path::to_owned);
                Listen::Unix(path).fmt(f)
            }
        }
    }
}

fn bind_vsock(port: u32) -> io::Result<VsockListener> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
    widen(&listener)?;
    Ok(listener)
}

/// Sets the longest accept queue: a short one is filled by one container that connects in a loop, and
/// the kernel then rejects the host.
fn widen(listener: &VsockListener) -> io::Result<()> {
    Ok(socket::listen(listener, Backlog::MAXCONN)?)
}

/// Returns the number of sockets that are handed down to this process.
fn inherited_count() -> Result<Option<u8>, Error> {
    let Ok(text) = std::env::var("LISTEN_FDS") else {
        return Ok(None);
    };
    // Set by systemd, and not by an init that can't know the id before the process exists.
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid != std::process::id().to_string()) {
        return Ok(None);
    }
    let count = text.parse().ok();
    match count.filter(|count| (1..=MAX_SOCKETS).contains(count)) {
        Some(count) => Ok(Some(count)),
        None => Err(Error::Count(text)),
    }
}

fn inherited(count: u8) -> Result<Listeners, Error> {
    let listeners = (FIRST_FD..FIRST_FD + RawFd::from(count)).map(|number| {
        #[expect(unsafe_code, reason = "the protocol hands descriptors down by number")]
        // SAFETY: the protocol gives these numbers to this process for its own use, and this is the
        // only place that takes them, once, before anything else is opened.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        let is_listener = getsockopt(&descriptor, sockopt::AcceptConn) == Ok(true);
        let listener = VsockListener::from(descriptor);
        let prepared = fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok()
            && listener.local_addr().is_ok()
            && widen(&listener).is_ok();
        (is_listener && prepared)
            .then_some(listener)
            .ok_or(Error::NotListening(number))
    });
    listeners.collect::<Result<_, _>>().map(Listeners::Vsock)
}
