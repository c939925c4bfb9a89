//! Addresses of links.

use std::net::IpAddr;

use patchbay_types::{DadPolicy, InterfaceAddress};

use super::{AF_INET6, family, header, put_ip, read_ip};
use patchbay_netlink::{Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// `ifaddrmsg`: family u8, prefix's length u8, flags u8, scope u8, link's index u32.
const HEADER: usize = 8;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;

/// `IFA_*` of `linux/if_addr.h`.
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const BROADCAST: u16 = 4;
}

/// `IFA_F_*`; these are among the eight of the header.
mod flag {
    pub(super) const NODAD: u8 = 1 << 1;
    pub(super) const DADFAILED: u8 = 1 << 3;
    pub(super) const TENTATIVE: u8 = 1 << 6;
}

/// How far an address is on its way to being used (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// In use.
    Usable,
    /// The other hosts on the link are being asked.
    Tentative,
    /// One of them has it.
    Duplicate,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The link.
    pub index: u32,
    /// The address.
    pub address: InterfaceAddress,
    /// Whether it is used yet.
    pub progress: Progress,
}

/// The addresses of one link.
pub fn of(
    kernel: &mut impl Transport<Rtnetlink>,
    index: u32,
) -> Result<Vec<InterfaceAddress>, Error> {
    let listed = list(kernel)?.into_iter();
    Ok(listed
        .filter(|listed| listed.index == index)
        .map(|listed| listed.address)
        .collect())
}

/// Every address of the namespace. Left out are the IPv6 link-local ones, which belong to the
/// kernel, and any that an interface of ours could not have.
pub fn list(kernel: &mut impl Transport<Rtnetlink>) -> Result<Vec<Listed>, Error> {
    let request = Batch::of(RTM_GETADDR, Flags::Dump, |body| body.raw(&[0; HEADER]));
    dump(kernel, &request, read)
}

fn read(payload: &[u8]) -> Result<Option<Listed>, Error> {
    let [family, prefix, flags, scope, index @ ..] = *header::<HEADER>(payload)?;
    if family == AF_INET6 && scope == SCOPE_LINK {
        return Ok(None);
    }
    // IFA_LOCAL is the interface's own address; on a point-to-point link IFA_ADDRESS is the peer's.
    // IPv6 without a peer has only IFA_ADDRESS.
    let attrs = Attrs::after(HEADER, payload)?;
    let Some(own) = attrs.find(ifa::LOCAL)?.or(attrs.find(ifa::ADDRESS)?) else {
        return Ok(None);
    };
    let address = InterfaceAddress::new(read_ip(own)?, prefix).ok();
    Ok(address.map(|address| Listed {
        index: u32::from_ne_bytes(index),
        address,
        progress: if flags & flag::DADFAILED != 0 {
            Progress::Duplicate
        } else if flags & flag::TENTATIVE != 0 {
            Progress::Tentative
        } else {
            Progress::Usable
        },
    }))
}

/// Adds to a batch: link `index` gets the address.
///
/// An IPv4 network gets its broadcast address as `ip addr add … brd +` would.
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
        tell(body, index, address, flags);
        if let IpAddr::V4(v4) = address.ip()
            && address.prefix() < 31
        {
            let hosts = u32::MAX >> address.prefix();
            let broadcast = u32::from(v4) | hosts;
            body.bytes(ifa::BROADCAST, broadcast.to_be_bytes());
        }
    });
}

/// Adds to a batch: link `index` loses the address.
pub fn remove(batch: &mut Batch<Rtnetlink>, index: u32, address: InterfaceAddress) {
    batch.push(RTM_DELADDR, Flags::Plain, |body| {
        tell(body, index, address, 0);
    });
}

fn tell(body: &mut Body<'_>, index: u32, address: InterfaceAddress, flags: u8) {
    body.raw(&[family(address.ip()), address.prefix(), flags, 0]);
    body.raw(&index.to_ne_bytes());
    put_ip(body, ifa::LOCAL, address.ip());
    put_ip(body, ifa::ADDRESS, address.ip());
}
