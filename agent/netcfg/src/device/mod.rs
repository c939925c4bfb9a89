//! Finding a card by where it sits.

mod sysfs;
mod wait;

pub use sysfs::Sysfs;
#[cfg(fuzzing)]
pub(crate) use sysfs::device_path;
pub use wait::until;
