//! What the two halves of patchbay share: the wire, the domain types, and the typed failure.
//!
//! A value is checked once, where it enters (JSON, wire, command words), and its type remembers.
//! This crate opens no socket and no file.

pub mod conntrack;
pub mod convert;
pub mod endpoint;
pub mod failure;
pub mod ipvs;
pub mod model;
pub mod packed;
pub mod text;
pub mod wire;

/// Number of the API between host and agent; raised by every change that an older peer can't take,
/// and with it the version in the name of the `.proto` files' package: what an older peer must not
/// carry out it does not know by name.
pub const API_VERSION: u32 = 1;

/// vsock port on which the agent listens unless told otherwise; beside a Kata agent's 1024.
pub const DEFAULT_PORT: u32 = 1061;
