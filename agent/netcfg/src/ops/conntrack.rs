//! Operations on connection tracking: list and delete flows.

use std::sync::Arc;

use nix::errno::Errno;
use patchbay_types::conntrack::{Filter, Flow};
use patchbay_types::failure::{Failure, Kind};

use super::error::of_netlink;
use crate::conntrack;
use crate::modules::{self, Loader};
use patchbay_netlink::{Netfilter, RecvBuffer, Socket};

/// Failure to list or delete flows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no conntrack netlink, neither built in nor as a module.
    #[error("this guest's kernel has no conntrack over netlink (module nf_conntrack_netlink)")]
    NoConntrack,
    /// The module exists and can't be loaded.
    #[error(transparent)]
    Module(#[from] modules::Error),
    /// The netlink socket failed, or the kernel refused the request.
    #[error("conntrack netlink request failed")]
    Netlink(#[source] patchbay_netlink::Error),
}

impl From<patchbay_netlink::Error> for Error {
    fn from(error: patchbay_netlink::Error) -> Self {
        use patchbay_netlink::Error::{Open, Refused};
        let lacks_nfnetlink = Some(Errno::EPROTONOSUPPORT as i32);
        match &error {
            // nfnetlink's error for a subsystem that isn't registered.
            Refused(refused) if refused.is(Errno::EINVAL) => Self::NoConntrack,
            Open(source) if source.raw_os_error() == lacks_nfnetlink => Self::NoConntrack,
            _ => Self::Netlink(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::NoConntrack => Failure::of(Kind::Unsupported, &error),
            Error::Netlink(source) => of_netlink(&error, source),
            Error::Module(_) => Failure::of(Kind::Other, &error),
        }
    }
}

/// Operations on the flows of a network namespace. Each opens a socket: without nfnetlink the kernel
/// lacks even the protocol, and no request waits for another.
#[derive(Debug, Clone)]
pub struct ConntrackOps(pub(super) Arc<Loader>);

impl ConntrackOps {
    /// Deletes every flow that matches the filter and returns their number.
    pub fn delete(&self, filter: &Filter) -> Result<usize, Error> {
        Ok(conntrack::delete(&mut self.socket()?, filter)?)
    }

    /// Passes every flow, or those that match the filter, to `each`.
    pub fn list(&self, filter: Option<&Filter>, each: &mut dyn FnMut(&Flow)) -> Result<(), Error> {
        Ok(conntrack::each(&mut self.socket()?, filter, each)?)
    }

    fn socket(&self) -> Result<Socket<Netfilter>, Error> {
        self.0.load("nf_conntrack_netlink")?;
        Ok(Socket::open(RecvBuffer::Large)?)
    }
}
