//! Plugging and unplugging.
//!
//! Plugging writes the journal, does its steps, and marks the card as plugged. Whatever goes wrong,
//! undoing is one thing: [`clear`] makes everything that the journal knows of the card absent, in
//! whatever state it finds it. The same function unplugs a card, and finishes what a process that
//! died had begun.

mod attach;
mod carrier;
mod clear;
mod descriptors;
mod ifreq;
mod inventory;
mod slot;
mod tap;
mod vhost_user;

pub use attach::{Bench, attach};
pub use clear::{clear, recover};
pub use inventory::{Inventory, Mechanism, Nic};
pub use slot::{free_by_bus, none_free};
pub use vhost_user::memory_is_shared;
