//! Addresses of links.

use std::net::IpAddr;

use libc::{
    IFA_ADDRESS, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS, IFA_LABEL, IFA_LOCAL, RT_SCOPE_HOST,
    RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR,
};
use patchbay_types::ipvs::Family;
use patchbay_types::{DadPolicy, InterfaceAddress, PrefixRoute};

use super::{family, header, put_ip, read_ip};
use patchbay_netlink::{
    Attribute, Attrs, Batch, Body, Error, Flags, Rtnetlink, Transport, dump, read_u8, read_u32,
};

/// Size of `ifaddrmsg`: family u8, prefix length u8, flags u8, scope u8, interface index u32.
const HEADER: usize = 8;

/// Size of the attribute with `ifa_cacheinfo`: a header, and four u32.
const CACHE_INFO: usize = 20;

/// Missing in `libc`: `IFA_PROTO` of `linux/if_addr.h`.
const IFA_PROTO: u16 = 11;

/// Value of `IFA_PROTO` on addresses that patchbay sets. Linux keeps the attribute since 5.18, and
/// ignores it before. The kernel uses 1 to 3 itself, keepalived 18.
const PATCHBAY: u8 = 80;

/// `IFA_F_*`.
mod flag {
    /// For IPv4 the same bit means `IFA_F_SECONDARY`.
    pub(super) const TEMPORARY: u32 = 1;
    pub(super) const NODAD: u32 = 1 << 1;
    pub(super) const HOMEADDRESS: u32 = 1 << 4;
    pub(super) const DADFAILED: u32 = 1 << 3;
    pub(super) const TENTATIVE: u32 = 1 << 6;
    pub(super) const PERMANENT: u32 = 1 << 7;
    pub(super) const MANAGETEMPADDR: u32 = 1 << 8;
    pub(super) const NOPREFIXROUTE: u32 = 1 << 9;
    pub(super) const MCAUTOJOIN: u32 = 1 << 10;

    /// Settings; the other flags are state, or follow from the lifetime.
    pub(super) const SETTINGS: u32 =
        NODAD | HOMEADDRESS | MANAGETEMPADDR | NOPREFIXROUTE | MCAUTOJOIN;
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

/// Program that set an address, as far as the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// patchbay: the address has its tag.
    Patchbay,
    /// Any program that sets permanent addresses of global scope without a label: Kata's agent, a
    /// person with iproute2, or patchbay if the kernel keeps no tags.
    Untagged,
    /// The kernel, SLAAC, DHCP, or a program that labels its addresses, limits their scope or
    /// lifetime, or adds their routes by itself.
    Other,
}

/// Address with its prefix length, and peer.
pub type Identity = (InterfaceAddress, Option<IpAddr>);

/// Address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// Index of the link.
    pub index: u32,
    /// Address and prefix length.
    pub address: InterfaceAddress,
    /// Other end of a point-to-point address, whose prefix length `address` then has.
    pub peer: Option<IpAddr>,
    /// State of duplicate address detection.
    pub dad: DadState,
    /// Program that set it.
    pub origin: Origin,
    /// `RT_SCOPE_LINK`: not valid beyond the link.
    pub link_local: bool,
    /// Privacy address, which the kernel makes and replaces by itself (`IFA_F_TEMPORARY`).
    pub temporary: bool,
    /// Never expires (`IFA_F_PERMANENT`).
    permanent: bool,
    /// Body of the `RTM_NEWADDR` message that adds the address again, without the members below.
    message: Vec<u8>,
    flags: u32,
    protocol: u8,
    /// Attribute with `ifa_cacheinfo`: remaining preferred and valid lifetime, and two timestamps.
    lifetime: Option<[u8; CACHE_INFO]>,
}

/// Lists the addresses of all links in the network namespace, or of one link. Skips those that
/// [`InterfaceAddress`] doesn't allow.
pub fn list(
    socket: &mut impl Transport<Rtnetlink>,
    index: Option<u32>,
) -> Result<Vec<LinkAddress>, Error> {
    let request = Batch::of(RTM_GETADDR, Flags::Dump, |body| {
        body.raw(&[0; 4]);
        body.raw(&index.unwrap_or_default().to_ne_bytes());
    });
    let mut addresses = dump(socket, &request, LinkAddress::read)?;
    // Linux before 4.20 ignores the index in the request.
    addresses.retain(|listed| index.is_none_or(|index| listed.index == index));
    Ok(addresses)
}

impl LinkAddress {
    pub(super) fn read(payload: &[u8]) -> Result<Option<Self>, Error> {
        let [family, prefix, flags, scope, index @ ..] = *header::<HEADER>(payload)?;
        let [i0, i1, i2, i3] = index;
        // A card can have thousands of addresses: one allocation for each.
        let mut message = Vec::with_capacity(payload.len());
        message.extend_from_slice(&[family, prefix, 0, scope, i0, i1, i2, i3]);
        let (mut own, mut other, mut protocol, mut labelled) = (None, None, 0, false);
        let (mut flags, mut lifetime) = (u32::from(flags), None);
        for attribute in Attrs::after(HEADER, payload)?.raw_attrs() {
            let Attribute {
                kind,
                value,
                encoded,
            } = attribute?;
            match kind {
                // The header has only eight bits for them.
                IFA_FLAGS => flags = read_u32(value)?,
                IFA_CACHEINFO => lifetime = encoded.try_into().ok(),
                IFA_PROTO => protocol = read_u8(value)?,
                _ => message.extend_from_slice(encoded),
            }
            match kind {
                IFA_LOCAL => own = Some(read_ip(value)?),
                IFA_ADDRESS => other = Some(read_ip(value)?),
                // A label without a colon repeats the name of the link.
                IFA_LABEL => labelled = value.contains(&b':'),
                _ => {}
            }
        }
        // IFA_LOCAL is the interface's own address; on a point-to-point link IFA_ADDRESS is the peer's.
        // IPv6 without a peer has only IFA_ADDRESS.
        let Some(ip) = own.or(other) else {
            return Ok(None);
        };
        message.resize(message.len().next_multiple_of(4), 0);
        let Ok(address) = InterfaceAddress::new(ip, prefix) else {
            return Ok(None);
        };
        let permanent = flags & flag::PERMANENT != 0;
        let by_itself = flags & flag::SETTINGS & !flag::NODAD != 0;
        // The kernel makes its link-local addresses without NODAD.
        let global = scope == RT_SCOPE_UNIVERSE
            || scope == RT_SCOPE_LINK && ip.is_ipv6() && flags & flag::NODAD != 0;
        Ok(Some(Self {
            index: u32::from_ne_bytes(index),
            address,
            peer: other.filter(|other| *other != ip),
            dad: match flags {
                flags if flags & flag::DADFAILED != 0 => DadState::Duplicate,
                flags if flags & flag::TENTATIVE != 0 => DadState::Tentative,
                _ => DadState::Usable,
            },
            origin: match protocol {
                PATCHBAY => Origin::Patchbay,
                0 if permanent && global && !labelled && !by_itself => Origin::Untagged,
                _ => Origin::Other,
            },
            link_local: scope == RT_SCOPE_LINK,
            temporary: ip.is_ipv6() && flags & flag::TEMPORARY != 0,
            permanent,
            message,
            flags: flags & flag::SETTINGS,
            protocol,
            lifetime,
        }))
    }

    /// Returns the parts that no two addresses of a link have in common.
    #[must_use]
    pub fn identity(&self) -> Identity {
        (self.address, self.peer)
    }

    /// Returns the family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.address.ip())
    }

    /// Returns whether a request for the address takes it over: then it lasts without the program
    /// that set it.
    #[must_use]
    pub fn can_be_tagged(&self) -> bool {
        let by_kernel = self.permanent && self.link_local && self.address.ip().is_ipv6();
        self.origin == Origin::Untagged || self.origin == Origin::Other && by_kernel
    }

    /// Returns whether the address can be restored on a link that is down, and is there when it is set up
    /// again. Others are made by the kernel, from what it then hears on the link.
    #[must_use]
    pub fn is_kept_while_down(&self) -> bool {
        self.permanent && !(self.link_local && self.origin == Origin::Other)
    }

    fn encode(&self, body: &mut Body<'_>, flags: u32, protocol: u8) {
        body.raw(&self.message);
        body.u32(IFA_FLAGS, flags);
        if protocol != 0 {
            body.u8(IFA_PROTO, protocol);
        }
        if let Some(lifetime) = &self.lifetime {
            body.raw(lifetime);
        }
    }
}

/// Appends a request that adds an address to link `index`, with patchbay's tag. IPv4 addresses get
/// the broadcast address of their network, as with `ip addr add ... brd +`. The addresses of one network need
/// the same scope, and that of 127.0.0.1/8 on the loopback is host.
pub fn add(
    batch: &mut Batch<Rtnetlink>,
    index: u32,
    address: InterfaceAddress,
    duplicates: DadPolicy,
    prefix_route: PrefixRoute,
) {
    let (ip, prefix) = (address.ip(), address.prefix());
    batch.push(RTM_NEWADDR, Flags::Create, |body| {
        let scope = match ip {
            IpAddr::V4(v4) if v4.is_loopback() => RT_SCOPE_HOST,
            _ => RT_SCOPE_UNIVERSE,
        };
        body.raw(&[family(ip), prefix, 0, scope]);
        body.raw(&index.to_ne_bytes());
        put_ip(body, IFA_LOCAL, ip);
        put_ip(body, IFA_ADDRESS, ip);
        body.u8(IFA_PROTO, PATCHBAY);
        let mut flags = match prefix_route {
            PrefixRoute::Kernel => 0,
            PrefixRoute::Absent => flag::NOPREFIXROUTE,
        };
        match ip {
            IpAddr::V4(v4) if prefix < 31 => {
                let broadcast = u32::from(v4) | u32::MAX >> prefix;
                body.bytes(IFA_BROADCAST, broadcast.to_be_bytes());
            }
            IpAddr::V6(_) if duplicates == DadPolicy::Skip => flags |= flag::NODAD,
            _ => {}
        }
        if flags != 0 {
            body.u32(IFA_FLAGS, flags);
        }
    });
}

/// Appends a request that tags an address as set by patchbay.
pub fn tag(batch: &mut Batch<Rtnetlink>, address: &LinkAddress) {
    batch.push(RTM_NEWADDR, Flags::Replace, |body| {
        address.encode(body, address.flags, PATCHBAY);
    });
}

/// Appends a request that gives an address of the link the settings and the lifetime of `address`, which
/// has the same identity and label.
pub fn replace(batch: &mut Batch<Rtnetlink>, address: &LinkAddress) {
    batch.push(RTM_NEWADDR, Flags::Replace, |body| {
        address.encode(body, address.flags, address.protocol);
    });
}

/// Appends requests that add an address as it was listed, with the lifetime that it had left.
pub fn restore(batch: &mut Batch<Rtnetlink>, address: &LinkAddress) {
    // The link had the address: another detection would only make it unusable for a second.
    let without_dad = match address.address.ip() {
        IpAddr::V4(_) => address.flags,
        IpAddr::V6(_) => address.flags | flag::NODAD,
    };
    batch.push(RTM_NEWADDR, Flags::Create, |body| {
        address.encode(body, without_dad, address.protocol);
    });
    if without_dad != address.flags {
        replace(batch, address);
    }
}

/// Appends a request that removes an address.
pub fn remove(batch: &mut Batch<Rtnetlink>, address: &LinkAddress) {
    batch.push(RTM_DELADDR, Flags::Plain, |body| {
        address.encode(body, address.flags, address.protocol);
    });
}
