//! rtnetlink: domain types to messages of netlink-packet-route and back.

pub mod address;
pub mod link;
pub mod route;

use netlink_packet_core::Parseable;

use crate::netlink::Error;

fn parse<T: Parseable<[u8]>>(payload: &[u8]) -> Result<T, Error> {
    T::parse(payload).map_err(|_| Error::Malformed("netlink-packet-route can't read it"))
}
