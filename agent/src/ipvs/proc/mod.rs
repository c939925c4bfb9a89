//! What IPVS tells by `/proc` alone, or faster there.

mod connections;
mod rules;

pub use connections::connections;
pub use rules::{ProcServers, count_rules};
#[cfg(fuzzing)]
pub(crate) use {
    connections::parse as connection_row,
    rules::{server as server_row, service as service_row},
};
