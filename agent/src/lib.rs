//! The agent inside the guest: finds hot-plugged cards and configures them by raw netlink.
//!
//! `server` (handlers) → `service` (decide, order, undo) → `rtnl`, `ethtool` (domain type ↔
//! attributes) → `netlink` (sockets, batches). `device` finds the card.

pub mod config;
pub mod conntrack;
pub mod device;
pub mod ethtool;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod genl;
pub mod ipvs;
pub mod log;
pub mod modules;
pub mod netlink;
pub mod privileges;
pub mod rtnl;
pub mod server;
pub mod service;
