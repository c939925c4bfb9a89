//! Generated messages and services, and the only `include!` of the workspace.
//!
//! Nothing but [`crate::convert`], [`patchbay_types::failure`] and the two ends of the connection may name
//! what is in here; everybody else works with [`patchbay_types`].

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

include!(concat!(env!("OUT_DIR"), "/mod.rs"));
