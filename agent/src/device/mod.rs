//! Finding a card by where it sits.

mod sysfs;
mod wait;

pub use sysfs::Sysfs;
pub use wait::until;
