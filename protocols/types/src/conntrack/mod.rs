//! Connection tracking: filters for flows, and the flows that the kernel lists.

mod filter;
mod flow;
mod masked;
mod names;
mod no_filter;

pub use filter::{Ends, Filter, FilterFields, IcmpFilter, Mark, Nat, StatusMask, Translated};
pub use flow::{Flow, Icmp, Tuple};
pub use masked::Masked;
pub use names::{
    GRE, ICMP, ICMPV6, PROTOCOLS, SEEN_REPLY, STATUSES, UNREPLIED, has_ports, protocol_name,
    state_name, states, status_names,
};
pub use no_filter::NoFilter;
