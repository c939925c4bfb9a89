//! vhost-user ports: the pre-flight without which QEMU would stop the guest, and the backend.

mod backend;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{QueuePairs, SocketPath};
use serde_json::json;

use crate::card::Listener;
use crate::qmp::command::{ChardevAdd, NetdevAddVhostUser, QueryChardev, QueryMemdev, Yank};
use crate::qmp::{Error, Session};
use crate::sandbox::CardRecord;
use crate::vsock_stream;

/// Longest wait for `netdev_add`, which holds QEMU's main loop until the backend has answered. One
/// that has passed the pre-flight answers in milliseconds.
const HELD: Duration = Duration::from_secs(3);
/// A backend that is the client is looked for so often; QEMU tells of none by an event.
const LOOK: Duration = Duration::from_millis(50);

/// A port as it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port<'a> {
    pub socket: &'a SocketPath,
    pub listener: Listener,
    pub pairs: QueuePairs,
}

impl Port<'_> {
    /// The pre-flight: shared memory, a backend that answers, as many queues as are asked for.
    pub(super) fn check(&self, qmp: &mut Session, wait: Duration) -> Result<(), Failure> {
        if !memory_is_shared(qmp)? {
            let sentence = "the machine's memory is not shared, so no vhost-user backend could read \
                            its packets: it needs -object memory-backend-memfd,share=on";
            return Err(Failure::new(Kind::Unsupported, sentence).with_field("vhostUserSocket"));
        }
        let stream = match self.listener {
            Listener::Backend => vsock_stream::unix(self.socket.as_path(), backend::PATIENCE)
                .map_err(|error| self.failure("nobody listens on the socket", &error))?,
            Listener::Qemu => self.meet(wait)?,
        };
        backend::check(&stream, self.socket, self.pairs)
    }

    /// Takes QEMU's place for a moment, since QEMU itself could not turn a backend away any more.
    fn meet(&self, wait: Duration) -> Result<UnixStream, Failure> {
        let path = self.socket.as_path();
        let listener =
            bind(path).map_err(|error| self.failure("could not listen on the socket", &error))?;
        let met = accept(&listener, wait);
        let removed = fs::remove_file(path);
        met.map_err(|error| self.failure("no backend came to the socket", &error))
            .and_then(|met| {
                removed.map_err(|error| self.failure("could not clear the socket", &error))?;
                Ok(met)
            })
    }

    fn failure(&self, sentence: &str, error: &io::Error) -> Failure {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => Kind::Timeout,
            // A file that nobody listens on any more.
            io::ErrorKind::ConnectionRefused => Kind::NotFound,
            io::ErrorKind::AddrInUse => Kind::Exists,
            _ => error.raw_os_error().map_or(Kind::Other, Kind::from_errno),
        };
        Failure::new(kind, format!("{sentence} {}", self.socket))
            .with_field("vhostUserSocket")
            .with_cause(error.to_string())
    }

    /// Character device and backend.
    pub(super) fn make_backend(
        &self,
        qmp: &mut Session,
        card: &CardRecord,
        wait: Duration,
    ) -> Result<(), Failure> {
        let step = |step: &'static str| move |error| Failure::from(&error).context(step);
        let chardev = card.chardev_id();
        let add = ChardevAdd {
            id: &chardev,
            backend: self.chardev(),
        };
        qmp.run(&add)
            .map_err(step("could not make the card's character device"))?;
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
        let made = qmp.run_or_rescue(&netdev, HELD, &rescue).map(drop);
        made.map_err(step("could not make the card's backend"))
    }

    /// As a client QEMU comes back every second to a backend that was restarted.
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
                return Err(self.failure("no backend came to the socket", &late));
            }
            qmp.event(Instant::now() + LOOK, |_| false)?;
        }
        Ok(())
    }
}

/// Whether a backend in another process can read the machine's memory. Without it every command
/// succeeds, the guest shows a carrier, and no packet ever moves.
pub fn memory_is_shared(qmp: &mut Session) -> Result<bool, Error> {
    let memory = qmp.run(&QueryMemdev {})?;
    Ok(!memory.is_empty() && memory.iter().all(|part| part.share))
}

fn connected(qmp: &mut Session, chardev: &str) -> Result<bool, Error> {
    let all = qmp.run(&QueryChardev {})?;
    let ours = all.iter().find(|one| one.label == chardev);
    Ok(ours.is_some_and(|one| !one.filename.starts_with("disconnected:")))
}

/// Takes the place; a socket that nobody listens on any more was left by a process that died.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {
            match vsock_stream::unix(path, backend::PATIENCE) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(taken),
            }
        }
        bound => bound,
    }
}

fn accept(listener: &UnixListener, wait: Duration) -> io::Result<UnixStream> {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(wait.as_millis()).unwrap_or(PollTimeout::MAX);
    match poll(&mut ready, wait)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(listener.accept()?.0),
    }
}
