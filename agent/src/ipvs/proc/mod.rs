//! What IPVS tells by `/proc` alone, or faster there.

mod connections;
mod rules;

pub use connections::connections;
pub use rules::{ProcServers, count_rules};
