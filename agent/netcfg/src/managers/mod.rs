//! Programs of the guest that configure links on their own, such as systemd-networkd. They remove
//! addresses that they have not set, so the guest's udev has to exclude patchbay's cards.

mod marks;
mod running;

pub use marks::CardMarks;
pub(crate) use running::running;
