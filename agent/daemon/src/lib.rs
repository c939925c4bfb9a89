//! The agent inside the guest: finds hot-plugged cards and configures them by raw netlink.
//!
//! `server` (handlers) → `patchbay-kernel` (decide, order, undo, and tell the kernel).

pub mod config;
pub mod log;
pub mod privileges;
pub mod server;
