//! What can go wrong between us and the kernel.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// The transport failed, or the kernel refused a question.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket of this family: the kernel lacks it, or we lack the right.
    #[error("could not open a netlink socket")]
    Open(#[source] io::Error),
    /// `sendmsg` failed; nothing of the chunk was carried out.
    #[error("could not send to the kernel")]
    Send(#[source] io::Error),
    /// `recvmsg` failed; what was done is unknown.
    #[error("could not receive from the kernel")]
    Receive(#[source] io::Error),
    /// ENOBUFS: answers were lost; what was done is unknown.
    #[error("the kernel's answers overflowed the socket")]
    Overrun,
    /// An answer was larger than any the kernel should send.
    #[error("an answer of the kernel was cut off")]
    Truncated,
    /// `NLM_F_DUMP_INTR`: the tables changed while they were read.
    #[error("the kernel's tables kept changing while they were read")]
    Interrupted,
    /// An answer that breaks the format.
    #[error("the kernel's answer is malformed: {0}")]
    Malformed(&'static str),
    /// The kernel said no.
    #[error("{0}")]
    Refused(KernelError),
}

/// The kernel's no: its errno and, where it gave one, its sentence (`NLMSGERR_ATTR_MSG`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// A positive errno.
    pub errno: i32,
    /// The extended acknowledgement.
    pub text: Option<String>,
}

impl KernelError {
    /// Whether it was this errno.
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
