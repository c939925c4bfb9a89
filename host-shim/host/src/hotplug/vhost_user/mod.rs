//! vhost-user backends: a pre-flight check, without which QEMU could stop the guest, and the setup.

mod backend;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{QueuePairs, SocketPath};
use serde_json::json;

use crate::card::Listener;
use crate::interrupt::Interrupt;
use crate::qmp::command::{ChardevAdd, NetdevAddVhostUser, QueryChardev, QueryMemdev, Yank};
use crate::qmp::{Error, Session};
use crate::sandbox::CardRecord;
use crate::vsock_stream;

/// Timeout of `netdev_add`, which blocks QEMU's main loop until the backend has replied. A backend
/// that passed the pre-flight check replies in milliseconds.
const NETDEV_ADD_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of looking for a backend that connects to QEMU, for which QEMU has no event.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval of looking for an interruption of the command.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const NOT_CONNECTED: &str = "no backend connected to the socket";

/// Requested vhost-user backend.
#[derive(Debug)]
pub(super) struct VhostUserBackend<'a> {
    pub(super) socket: &'a SocketPath,
    pub(super) listener: Listener,
    pub(super) pairs: QueuePairs,
    pub(super) interrupt: Interrupt,
}

impl VhostUserBackend<'_> {
    /// Checks for shared memory, a backend that replies, and the requested number of queues.
    pub(super) fn check(&self, qmp: &mut Session, wait: Duration) -> Result<(), Failure> {
        qmp.check_rescue::<NetdevAddVhostUser<'_>>()?;
        if !is_memory_shared(qmp)? {
            let message = "the machine's memory is not shared, so a vhost-user backend can't read its \
                           packets: QEMU needs -object memory-backend-memfd,share=on";
            return Err(Failure::new(Kind::Unsupported, message).with_field("vhostUserSocket"));
        }
        let stream = match self.listener {
            Listener::Backend => vsock_stream::unix(self.socket.as_path(), backend::REPLY_TIMEOUT)
                .map_err(|error| self.failure("nobody listens on the socket", &error))?,
            Listener::Qemu => self.accept(wait)?,
        };
        backend::check(&stream, self.socket, self.pairs)
    }

    /// Accepts the backend in QEMU's place, because QEMU can't reject one later.
    fn accept(&self, wait: Duration) -> Result<UnixStream, Failure> {
        let path = self.socket.as_path();
        let listener =
            bind(path).map_err(|error| self.failure("could not listen on the socket", &error))?;
        let accepted = self.accept_from(&listener, wait);
        let removed = fs::remove_file(path);
        let backend = accepted?;
        removed.map_err(|error| self.failure("could not remove the socket", &error))?;
        Ok(backend)
    }

    fn accept_from(&self, listener: &UnixListener, wait: Duration) -> Result<UnixStream, Failure> {
        let deadline = Instant::now() + wait;
        let failed = |error| self.failure(NOT_CONNECTED, &error);
        loop {
            self.interrupt.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let timeout =
                PollTimeout::try_from(left.min(CHECK_INTERVAL)).unwrap_or(PollTimeout::MAX);
            if poll(&mut ready, timeout).map_err(|errno| failed(errno.into()))? > 0 {
                return listener.accept().map(|(stream, _)| stream).map_err(failed);
            }
        }
    }

    fn failure(&self, message: &str, error: &io::Error) -> Failure {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => Kind::Timeout,
            // A socket file whose listener is gone.
            io::ErrorKind::ConnectionRefused => Kind::NotFound,
            io::ErrorKind::AddrInUse => Kind::Exists,
            _ => error.raw_os_error().map_or(Kind::Other, Kind::from_errno),
        };
        Failure::new(kind, format!("{message} {}", self.socket))
            .with_field("vhostUserSocket")
            .with_cause(error.to_string())
    }

    /// Adds the character device and the backend.
    pub(super) fn add_backend(
        &self,
        qmp: &mut Session,
        card: &CardRecord,
        wait: Duration,
    ) -> Result<(), Failure> {
        let step = |step: &'static str| move |error| Failure::from(error).context(step);
        let chardev = card.chardev_id();
        let add = ChardevAdd {
            id: &chardev,
            backend: self.chardev(),
        };
        qmp.run(&add)
            .map_err(step("could not add the card's character device"))?;
        if self.listener == Listener::Qemu {
            self.wait_for_backend(qmp, &chardev, wait)?;
        }
        let netdev = NetdevAddVhostUser {
            r#type: "vhost-user",
            id: &card.netdev_id(),
            chardev: &chardev,
            queues: self.pairs.get(),
        };
        let rescue = Yank {
            instances: json!([{"type": "chardev", "id": chardev}]),
        };
        let added = qmp.run_or_rescue(&netdev, NETDEV_ADD_TIMEOUT, &rescue);
        added
            .map(drop)
            .map_err(step("could not add the card's backend"))
    }

    /// Returns the `ChardevBackend`. As a client, QEMU reconnects every second to a restarted backend.
    fn chardev(&self) -> serde_json::Value {
        let path: &Path = self.socket.as_path();
        let address = json!({"type": "unix", "data": {"path": path}});
        let data = match self.listener {
            Listener::Backend => json!({"addr": address, "server": false, "reconnect": 1}),
            Listener::Qemu => json!({"addr": address, "server": true, "wait": false}),
        };
        json!({"type": "socket", "data": data})
    }

    fn wait_for_backend(
        &self,
        qmp: &mut Session,
        chardev: &str,
        wait: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + wait;
        while !connected(qmp, chardev)? {
            if Instant::now() >= deadline {
                let late = io::ErrorKind::TimedOut.into();
                return Err(self.failure(NOT_CONNECTED, &late));
            }
            self.interrupt.check()?;
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

/// Returns whether a backend in another process can read the machine's memory. Without it every
/// command succeeds and the guest has a carrier, but packets never move.
pub(crate) fn is_memory_shared(qmp: &mut Session) -> Result<bool, Error> {
    let memory = qmp.run(&QueryMemdev {})?;
    Ok(!memory.is_empty() && memory.iter().all(|part| part.share))
}

fn connected(qmp: &mut Session, chardev: &str) -> Result<bool, Error> {
    let all = qmp.run(&QueryChardev {})?;
    let found = all.iter().find(|info| info.label == chardev);
    Ok(found.is_some_and(|info| !info.filename.starts_with("disconnected:")))
}

/// Binds the socket; one without a listener was left by a process that died and is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        // A connection to any other file is refused, too.
        Err(in_use)
            if in_use.kind() == io::ErrorKind::AddrInUse
                && fs::symlink_metadata(path)?.file_type().is_socket() =>
        {
            match vsock_stream::unix(path, backend::REPLY_TIMEOUT) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(in_use),
            }
        }
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_replaces_a_socket_without_listener_and_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(bind(&socket).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        bind(&socket).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(bind(path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
