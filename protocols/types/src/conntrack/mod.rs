//! Connection tracking: filters for flows, and the flows that the kernel lists.

mod filter;
mod names;

pub use filter::{
    Ends, Filter, FilterFields, Flow, Mark, Nat, NoFilter, StatusMask, Translated, Tuple,
};
pub use names::{
    PROTOCOLS, SEEN_REPLY, STATUSES, TCP_STATES, UNREPLIED, has_ports, protocol_name, status_names,
    tcp_state_name,
};
