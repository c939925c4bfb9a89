//! Connection tracking: listing and deleting the flows that are meant.

use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_types::failure::{Failure, Kind};

use crate::conntrack;
use crate::modules::{self, Modules};
use patchbay_netlink::{Netfilter, RecvBuffer, Socket};

/// Why flows were not listed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither built in nor a module.
    #[error("this guest's kernel has no conntrack over netlink (module nf_conntrack_netlink)")]
    NoConntrack,
    /// A module is there, but does not load.
    #[error(transparent)]
    Module(#[from] modules::Error),
    /// The transport to the kernel failed, or the kernel refused.
    #[error("the kernel could not be asked about flows")]
    Netlink(#[from] patchbay_netlink::Error),
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoConntrack => Failure::of(Kind::Unsupported, error),
            Error::Netlink(patchbay_netlink::Error::Refused(refusal)) => {
                let kind = Kind::from_errno(refusal.errno);
                Failure::of(kind, error).with_errno(refusal.errno)
            }
            Error::Module(_) | Error::Netlink(_) => Failure::of(Kind::Other, error),
        }
    }
}

/// The socket of the conntrack interface, under its lock. A guest that has not loaded nfnetlink
/// has not even its protocol, so it is opened by the first request.
#[derive(Debug)]
pub struct ConntrackService {
    socket: Mutex<Option<Socket<Netfilter>>>,
    modules: Modules,
}

impl ConntrackService {
    /// Nothing is opened or loaded yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            socket: Mutex::new(None),
            modules: Modules::of_this_kernel(),
        }
    }

    /// Deletes every flow that agrees with the whole filter; how many there were.
    pub fn delete(&self, filter: &Filter) -> Result<usize, Error> {
        self.modules.load("nf_conntrack_netlink")?;
        let mut room = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match &mut *room {
            Some(socket) => socket,
            None => room.insert(open()?),
        };
        conntrack::delete(socket, filter).map_err(asked)
    }

    /// Hands over every flow that agrees with the whole filter, or all. By a socket of its own: who
    /// takes the flows may be slow.
    pub fn list(&self, only: Option<&Filter>, each: &mut dyn FnMut(&Flow)) -> Result<(), Error> {
        self.modules.load("nf_conntrack_netlink")?;
        conntrack::each(&mut open()?, only, each).map_err(asked)
    }
}

impl Default for ConntrackService {
    fn default() -> Self {
        Self::new()
    }
}

fn asked(error: patchbay_netlink::Error) -> Error {
    match error {
        // nfnetlink's answer for a subsystem that nobody has registered.
        patchbay_netlink::Error::Refused(refusal) if refusal.is(Errno::EINVAL) => {
            Error::NoConntrack
        }
        other => other.into(),
    }
}

fn open() -> Result<Socket<Netfilter>, Error> {
    Socket::open(RecvBuffer::Large).map_err(|error| match error {
        patchbay_netlink::Error::Open(source)
            if source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) =>
        {
            Error::NoConntrack
        }
        other => other.into(),
    })
}
