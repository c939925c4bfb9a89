//! The messages between host and agent: the protobuf types and ttrpc services, the packed layout of
//! bulk values, and their conversion from and to the domain types.

pub mod convert;
pub mod proto;
pub mod status;

/// Number of the API between host and agent; raised by every change that an older peer can't take,
/// and with it the version in the name of the `.proto` files' package: what an older peer must not
/// carry out it does not know by name.
pub const API_VERSION: u32 = 1;
