//! Plugging and unplugging of cards.
//!
//! Plugging writes the journal, runs its steps and marks the card as plugged. Undoing has a single
//! path: [`remove`] removes everything that the journal knows of a card, in whatever state it is.
//! It also unplugs a card and finishes what a process that died had begun.

mod card_netns;
mod collect;
mod descriptors;
mod detached;
pub(crate) mod fast_unplug;
mod host_settings;
mod inventory;
mod locked;
mod plug;
mod port;
mod presence;
mod recover;
mod removal;
mod slot;
mod tap;
mod unplug;
mod vhost_user;

pub use collect::collect;
pub(crate) use detached::{TapBackends, TapState, card_tap};
pub(crate) use host_settings::{change_host, check_settings, restore_settings};
pub use inventory::Mechanism;
pub(crate) use inventory::{Inventory, InventoryNic};
pub(crate) use locked::LockedSandbox;
pub(crate) use plug::plug;
pub(crate) use port::{has_left_bridge, rejoin_bridge, tap_status};
pub(crate) use removal::{in_the_way, remove};
pub(crate) use slot::{free_by_bus, no_free_slot};
pub(crate) use tap::{Tap, netns_of_bridge};
pub(crate) use vhost_user::is_memory_shared;
