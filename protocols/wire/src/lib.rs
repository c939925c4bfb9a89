//! Messages between host and agent: the protobuf types and ttrpc services, their conversion from and
//! to the domain types, and the handshake.

mod compat;
pub mod convert;
pub mod proto;
pub mod status;
mod token;

pub use compat::{API_VERSION, Feature, announced_layout, layouts};
pub use token::Token;
