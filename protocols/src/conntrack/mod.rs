//! Connection tracking: which flows are meant, and what a flow is.

mod filter;
mod grammar;
mod names;
mod nat;

pub use filter::{Ends, Filter, FilterParts, Flow, Mark, NoFilter, Status, Tuple};
pub use grammar::{Refused, parse};
pub use names::{has_ports, protocol_name, status_names, tcp_state_name};
pub use nat::{Nat, Translated};
