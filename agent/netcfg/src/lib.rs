//! What is asked of a guest's kernel, and how it is told: the agent without its wire.
//!
//! `service` (decide, order, undo) → `rtnl`, `ethtool`, `ipvs`, `conntrack` (domain type ↔ attributes) →
//! `netlink` (sockets, batches). `device` finds the card. Tens of thousands of rules pass through here,
//! so this package is optimised for speed; the agent around it, for size.

pub mod conntrack;
pub mod device;
pub mod ethtool;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod ipvs;
pub mod modules;
pub mod ops;
pub mod rtnl;
