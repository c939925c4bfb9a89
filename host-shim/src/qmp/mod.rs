//! QEMU's machine protocol: one session, one command in flight, every wait bounded.

pub(crate) mod command;
mod error;
mod message;
mod session;

pub(crate) use error::Error;
pub(crate) use session::Session;
