//! Address families and IP addresses in netlink messages.

use std::net::IpAddr;

use patchbay_netlink::{Body, Error};
use patchbay_types::ipvs::Family;

/// `AF_INET`, `AF_INET6`.
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// Returns the `AF_*` of a family.
pub(crate) fn af(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

/// Appends an address of 4 or 16 bytes as an attribute.
pub(crate) fn put_ip(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => body.bytes(kind, v4.octets()),
        IpAddr::V6(v6) => body.bytes(kind, v6.octets()),
    }
}

/// Appends a `union nf_inet_addr`: 16 bytes, of which IPv4 uses the first four.
pub(crate) fn put_ip_union(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    let mut union = [0; 16];
    match address {
        IpAddr::V4(v4) => union[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => union = v6.octets(),
    }
    body.bytes(kind, union);
}

/// Reads an address; the length decides on its family.
pub(crate) fn read_ip(value: &[u8]) -> Result<IpAddr, Error> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(value).map(IpAddr::from);
    v4.or(v6)
        .map_err(|_| Error::Malformed("an address has neither 4 nor 16 bytes"))
}
