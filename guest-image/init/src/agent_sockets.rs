//! Ports of the agent, which process 1 holds for as long as the guest runs.
//!
//! A port that is free while the agent restarts could be taken by any process of the guest, which would
//! then answer the host.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{Backlog, listen};
use patchbay_types::endpoint::DEFAULT_PORTS;
use vsock::{VMADDR_CID_ANY, VsockListener};

use crate::print;

/// First descriptor of `sd_listen_fds(3)`.
const FIRST_FD: RawFd = 3;

/// Listening sockets for the agent; none if they could not be bound: the agent then binds its port.
#[derive(Debug, Default)]
pub(crate) struct AgentSockets(Vec<VsockListener>);

impl AgentSockets {
    /// Binds the ports. Must be called while nothing else is open, because the agent finds its sockets
    /// by the numbers of the descriptors.
    pub(crate) fn hold() -> Self {
        let sockets = (FIRST_FD..).zip(DEFAULT_PORTS).map(|(number, port)| {
            let socket = bind_port(port)?;
            let taken = || io::Error::other(format!("descriptor {number} is in use"));
            (socket.as_raw_fd() == number)
                .then_some(socket)
                .ok_or_else(taken)
        });
        match sockets.collect::<io::Result<_>>() {
            Ok(sockets) => Self(sockets),
            Err(error) => {
                print(&format!("could not hold the agent's ports: {error}"));
                Self::default()
            }
        }
    }

    /// Starts a program with the sockets, which no other program inherits.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        if self.0.is_empty() {
            return command.spawn();
        }
        command.env("LISTEN_FDS", self.0.len().to_string());
        self.set_flags(FdFlag::empty())?;
        let child = command.spawn();
        self.set_flags(FdFlag::FD_CLOEXEC)?;
        child
    }

    fn set_flags(&self, flags: FdFlag) -> io::Result<()> {
        for socket in &self.0 {
            fcntl(socket, FcntlArg::F_SETFD(flags))?;
        }
        Ok(())
    }
}

fn bind_port(port: u32) -> io::Result<VsockListener> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
    // The crate's backlog of 128 is filled by one container that connects in a loop.
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}
