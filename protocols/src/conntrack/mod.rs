//! Connection tracking: which flows are meant.

mod filter;
mod grammar;

pub use filter::{Ends, Filter, FilterParts, Flow, Mark, Nat, NoFilter, Status, Translated, Tuple};
pub use grammar::{Refused, parse};
