//! What can go wrong.

use std::io;
use std::process::ExitStatus;

use patchbay_grammar::ipvsadm::RuleFileError;
use patchbay_netlink;

/// Work that could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Words that are not known.
    #[error("{}", crate::USAGE)]
    Usage,
    /// A file, a socket or a program.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The rule file.
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    /// The kernel's tables.
    #[error(transparent)]
    Netlink(#[from] patchbay_netlink::Error),
    /// The kernel refused a request.
    #[error("the kernel refused a request: {0}")]
    Refused(io::Error),
    /// The program that was measured failed.
    #[error("the program ended with {0}")]
    Program(ExitStatus),
    /// The other side of a connection did something else.
    #[error("the other side said something else")]
    Protocol,
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(errno.into())
    }
}
