//! QEMU's machine protocol: one session, one command in flight, every wait bounded.

pub mod command;
mod error;
mod message;
mod session;

pub use error::Error;
pub use session::Session;
