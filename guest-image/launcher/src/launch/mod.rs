//! Starts, finds and stops sandboxes.

mod accel;
mod attempt;
pub(crate) mod folder;
mod interrupt;
mod logs;
pub(crate) mod options;
mod processes;
mod qemu;
pub(crate) mod registry;
mod spawn;
mod start;
mod stop;
mod vsock;

pub(crate) use start::start;
pub(crate) use stop::stop;
