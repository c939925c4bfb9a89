//! Errors of the transport and of the kernel.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Failure of the transport, or the kernel's error in reply to a dump or get.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lacks this netlink protocol, or the process lacks the permission.
    #[error("could not open a netlink socket")]
    Open(#[source] io::Error),
    /// `sendmsg` failed; the kernel has processed no request of the chunk.
    #[error("could not send to the kernel")]
    Send(#[source] io::Error),
    /// `recvmsg` failed; the result of the request is unknown.
    #[error("could not receive from the kernel")]
    Receive(#[source] io::Error),
    /// ENOBUFS: replies were lost; the result of the request is unknown.
    #[error("the kernel's replies overflowed the receive buffer")]
    Overrun,
    /// A datagram is larger than the receive buffer.
    #[error("a reply of the kernel was truncated")]
    Truncated,
    /// `NLM_F_DUMP_INTR`: the table changed during each attempt to dump it.
    #[error("the kernel's table kept changing during the dump")]
    Interrupted,
    /// A reply that violates the netlink format.
    #[error("malformed reply of the kernel: {0}")]
    Malformed(&'static str),
    /// The kernel reported an error.
    #[error("{0}")]
    Refused(KernelError),
}

/// Error that the kernel reports for a request: errno and optional extended ACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// Positive errno.
    pub errno: i32,
    /// Text of the extended ACK (`NLMSGERR_ATTR_MSG`). Which errors have one depends on the kernel's
    /// version.
    pub text: Option<String>,
}

impl From<Errno> for KernelError {
    fn from(errno: Errno) -> Self {
        Self {
            errno: errno as i32,
            text: None,
        }
    }
}

impl KernelError {
    /// Returns whether the errno is `errno`.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == errno as i32
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Errno::from_raw(self.errno).desc())?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}
