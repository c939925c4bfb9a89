//! Errors of the measurements.

use std::io;
use std::process::ExitStatus;

use patchbay_grammar::ipvsadm::RuleFileError;

/// Error of a measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments are invalid.
    #[error("{}", crate::USAGE)]
    Usage,
    /// A file, a socket or a program failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The rule file is invalid.
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    /// A table could not be read.
    #[error(transparent)]
    Netlink(#[from] patchbay_netlink::Error),
    /// The kernel rejected a request.
    #[error("the kernel rejected a request: {0}")]
    Refused(io::Error),
    /// The measured program failed.
    #[error("the program ended with {0}")]
    Program(ExitStatus),
    /// The peer or the kernel sent an unexpected reply.
    #[error("unexpected reply")]
    Protocol,
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(errno.into())
    }
}
