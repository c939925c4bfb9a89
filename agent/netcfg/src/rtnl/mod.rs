//! rtnetlink: domain types to attributes and back (docs/decisions/0006).

pub mod address;
pub mod link;
pub mod route;

use std::net::IpAddr;

use patchbay_netlink::{Body, Error};

/// `AF_INET`, `AF_INET6`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// Adds an address as an attribute of this kind.
fn put_ip(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => body.bytes(kind, v4.octets()),
        IpAddr::V6(v6) => body.bytes(kind, v6.octets()),
    }
}

/// Reads an address; its length tells the family.
fn read_ip(value: &[u8]) -> Result<IpAddr, Error> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(value).map(IpAddr::from);
    v4.or(v6)
        .map_err(|_| Error::Malformed("an address has neither 4 nor 16 bytes"))
}

/// The fixed header of a message, before its attributes.
fn header<const N: usize>(payload: &[u8]) -> Result<&[u8; N], Error> {
    payload
        .first_chunk()
        .ok_or(Error::Malformed("it is shorter than its header"))
}
