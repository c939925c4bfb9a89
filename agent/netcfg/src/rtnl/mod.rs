//! rtnetlink: links, addresses, routes and neighbors as domain types (see docs/decisions/0006).

pub mod address;
pub mod event;
pub mod link;
pub mod neighbor;
pub mod route;

use std::net::IpAddr;

use patchbay_netlink::Error;
use patchbay_types::ipvs::Family;

use crate::inet::{AF_INET, AF_INET6, af, put_ip, read_ip};

fn family(address: IpAddr) -> u8 {
    af(Family::of(address))
}

/// Returns the fixed header of a message, which precedes its attributes.
fn header<const N: usize>(payload: &[u8]) -> Result<&[u8; N], Error> {
    payload
        .first_chunk()
        .ok_or(Error::Malformed("a message is shorter than its header"))
}
