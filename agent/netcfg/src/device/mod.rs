//! Lookup of a card by its PCI path, waiting for it, and the power of its slot.

mod slot;
mod sysfs;
mod wait;

pub use sysfs::Sysfs;
#[cfg(feature = "fuzzing")]
pub(crate) use sysfs::device_path;
pub use wait::wait_until;
