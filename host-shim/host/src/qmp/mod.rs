//! QEMU Machine Protocol (QMP): sessions with one command in flight and a limit for each wait.

pub(crate) mod command;
mod error;
mod message;
mod session;
mod virsh;

pub(crate) use error::Error;
pub use session::VSOCK_DEVICE;
pub(crate) use session::{Monitor, Replies, Session};
#[cfg(feature = "fuzzing")]
pub(crate) use virsh::{End, replies as replies_of_virsh};
pub(crate) use virsh::{SharedMonitor, Uuid};
