//! Addresses of links.

use std::net::IpAddr;

use libc::{
    IFA_ADDRESS, IFA_BROADCAST, IFA_LOCAL, RT_SCOPE_LINK, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR,
};
use patchbay_types::{DadPolicy, InterfaceAddress};

use super::{AF_INET6, family, header, put_ip, read_ip};
use patchbay_netlink::{Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump};

/// Size of `ifaddrmsg`: family u8, prefix length u8, flags u8, scope u8, interface index u32.
const HEADER: usize = 8;

/// `IFA_F_*` that fit in the header's 8 bits.
mod flag {
    pub(super) const NODAD: u8 = 1 << 1;
    pub(super) const DADFAILED: u8 = 1 << 3;
    pub(super) const TENTATIVE: u8 = 1 << 6;
}

/// State of duplicate address detection (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DadState {
    /// Finished, or not performed.
    Usable,
    /// In progress.
    Tentative,
    /// Another host has the address.
    Duplicate,
}

/// Address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// Index of the link.
    pub index: u32,
    /// Address and prefix length.
    pub address: InterfaceAddress,
    /// State of duplicate address detection.
    pub dad: DadState,
}

/// Lists the addresses of one link; see [`list`].
pub fn of(
    socket: &mut impl Transport<Rtnetlink>,
    index: u32,
) -> Result<Vec<InterfaceAddress>, Error> {
    let mut addresses = list(socket)?;
    addresses.retain(|listed| listed.index == index);
    Ok(addresses.iter().map(|listed| listed.address).collect())
}

/// Lists the addresses of all links in the network namespace. Skips the IPv6 link-local addresses,
/// which the kernel manages, and any that [`InterfaceAddress`] doesn't allow.
pub fn list(socket: &mut impl Transport<Rtnetlink>) -> Result<Vec<LinkAddress>, Error> {
    let request = Batch::of(RTM_GETADDR, Flags::Dump, |body| body.raw(&[0; HEADER]));
    dump(socket, &request, read)
}

fn read(payload: &[u8]) -> Result<Option<LinkAddress>, Error> {
    let [family, prefix, flags, scope, index @ ..] = *header::<HEADER>(payload)?;
    if family == AF_INET6 && scope == RT_SCOPE_LINK {
        return Ok(None);
    }
    // IFA_LOCAL is the interface's own address; on a point-to-point link IFA_ADDRESS is the peer's.
    // IPv6 without a peer has only IFA_ADDRESS.
    let attrs = Attrs::after(HEADER, payload)?;
    let Some(own) = attrs.find(IFA_LOCAL)?.or(attrs.find(IFA_ADDRESS)?) else {
        return Ok(None);
    };
    let address = InterfaceAddress::new(read_ip(own)?, prefix).ok();
    Ok(address.map(|address| LinkAddress {
        index: u32::from_ne_bytes(index),
        address,
        dad: if flags & flag::DADFAILED != 0 {
            DadState::Duplicate
        } else if flags & flag::TENTATIVE != 0 {
            DadState::Tentative
        } else {
            DadState::Usable
        },
    }))
}

/// Appends a request that adds an address to link `index`. IPv4 addresses get the broadcast address
/// of their network, as with `ip addr add ... brd +`.
pub fn add(
    batch: &mut Batch<Rtnetlink>,
    index: u32,
    address: InterfaceAddress,
    duplicates: DadPolicy,
) {
    let flags = match (address.ip(), duplicates) {
        (IpAddr::V6(_), DadPolicy::Skip) => flag::NODAD,
        _ => 0,
    };
    batch.push(RTM_NEWADDR, Flags::Create, |body| {
        encode(body, index, address, flags);
        if let IpAddr::V4(v4) = address.ip()
            && address.prefix() < 31
        {
            let broadcast = u32::from(v4) | u32::MAX >> address.prefix();
            body.bytes(IFA_BROADCAST, broadcast.to_be_bytes());
        }
    });
}

/// Appends a request that removes an address from link `index`.
pub fn remove(batch: &mut Batch<Rtnetlink>, index: u32, address: InterfaceAddress) {
    batch.push(RTM_DELADDR, Flags::Plain, |body| {
        encode(body, index, address, 0);
    });
}

fn encode(body: &mut Body<'_>, index: u32, address: InterfaceAddress, flags: u8) {
    body.raw(&[family(address.ip()), address.prefix(), flags, 0]);
    body.raw(&index.to_ne_bytes());
    put_ip(body, IFA_LOCAL, address.ip());
    put_ip(body, IFA_ADDRESS, address.ip());
}
