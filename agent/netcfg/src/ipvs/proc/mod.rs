//! What IPVS tells by `/proc` alone.

mod connections;
mod rules;

pub use connections::connections;
#[cfg(fuzzing)]
pub(crate) use connections::parse as connection_row;
pub use rules::count_rules;
