//! Plugging and unplugging of cards.
//!
//! Plugging writes the journal, runs its steps and marks the card as plugged. Undoing has a single
//! path: [`clean_up`] removes everything that the journal knows of a card, in whatever state it is.
//! It also unplugs a card and finishes what a process that died had begun.

mod descriptors;
mod inventory;
mod plug;
mod slot;
mod tap;
mod unplug;
mod vhost_user;

pub use inventory::Mechanism;
pub(crate) use inventory::{Inventory, InventoryNic};
pub(crate) use plug::{PlugContext, plug};
pub(crate) use slot::{free_by_bus, no_free_slot};
pub(crate) use unplug::{clean_up, recover};
pub(crate) use vhost_user::is_memory_shared;
