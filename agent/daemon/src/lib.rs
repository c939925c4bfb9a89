//! The agent inside the guest: serves the host's requests over ttrpc. `patchbay-netcfg` carries them
//! out.

pub mod config;
pub mod listeners;
pub mod loader;
pub mod log;
pub mod namespaces;
pub mod privileges;
pub mod readiness;
pub mod server;
