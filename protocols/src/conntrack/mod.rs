//! Connection tracking: which flows are meant.

mod filter;
mod grammar;
mod nat;

pub use filter::{Ends, Filter, FilterParts, Flow, Mark, NoFilter, Status, Tuple};
pub use grammar::{Refused, parse};
pub use nat::{Nat, Translated};
