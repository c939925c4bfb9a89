//! Addresses, routes and static neighbors of a link, as the kernel has them.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use patchbay_types::{InterfaceAddress, Neighbor, PrefixRoute};

use crate::netns::Rtnetlink;

/// Address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceAddress {
    pub(super) address: InterfaceAddress,
    /// Network to which the kernel makes a route unless it is deleted: that of the peer, if there is one.
    pub(super) network: IpNet,
}

/// Addresses of a link.
#[derive(Debug, Default)]
pub(super) struct SourceAddresses {
    /// Permanent ones of global scope.
    pub(super) mirrored: Vec<SourceAddress>,
    /// The others. Those with a lifetime come from router advertisements or DHCP, which reach the guest too.
    pub(super) left_out: Vec<IpAddr>,
}

/// Lists the addresses of a link.
pub(super) fn addresses(rtnl: &Rtnetlink, link: u32) -> io::Result<SourceAddresses> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let listed: Vec<RouteNetlinkMessage> = rtnl.dump(&request)?;
    let own = listed.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(address) if address.header.index == link => Some(address),
        _ => None,
    });
    let mut addresses = SourceAddresses::default();
    for message in own {
        match address(&message) {
            Some(address) => addresses.mirrored.push(address),
            None => addresses.left_out.extend(local(&message)),
        }
    }
    Ok(addresses)
}

fn local(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = message.attributes.iter();
    let ips = attributes.filter_map(|attribute| match attribute {
        // Without a peer, IPv6 addresses have only the second one.
        AddressAttribute::Local(ip) => Some((0, *ip)),
        AddressAttribute::Address(ip) => Some((1, *ip)),
        _ => None,
    });
    ips.min_by_key(|(rank, _)| *rank).map(|(_, ip)| ip)
}

pub(super) fn address(message: &AddressMessage) -> Option<SourceAddress> {
    let (mut local, mut other) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => other = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let is_lasting = flags.contains(AddressFlags::Permanent);
    if message.header.scope != AddressScope::Universe || !is_lasting {
        return None;
    }
    let ip = local.or(other)?;
    let network = IpNet::new(other.unwrap_or(ip), message.header.prefix_len).ok()?;
    let has_peer = other.is_some_and(|other| other != ip);
    let prefix = if has_peer {
        host_prefix(ip)
    } else {
        network.prefix_len()
    };
    Some(SourceAddress {
        address: InterfaceAddress::new(ip, prefix).ok()?,
        network: network.trunc(),
    })
}

fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

impl SourceAddress {
    /// Returns the prefix route that the guest's kernel is to make, given the networks to which the kernel
    /// has a route.
    pub(super) fn prefix_route(&self, connected: &[IpNet]) -> PrefixRoute {
        // A network of one address has no route.
        if self.is_host() || connected.contains(&self.network) {
            PrefixRoute::Kernel
        } else {
            PrefixRoute::Absent
        }
    }

    /// Returns whether the kernel's route to the network is that to the peer of the address.
    pub(super) fn has_peer_in(&self, network: IpNet) -> bool {
        self.is_host() && self.network == network
    }

    fn is_host(&self) -> bool {
        self.address.prefix() == host_prefix(self.address.ip())
    }
}

/// Lists the permanent neighbors.
pub(super) fn neighbors(rtnl: &Rtnetlink, link: u32) -> io::Result<Vec<Neighbor<()>>> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let listed: Vec<RouteNetlinkMessage> = rtnl.dump(&request)?;
    let own = listed.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewNeighbour(entry) if entry.header.ifindex == link => Some(entry),
        _ => None,
    });
    let lasting = own.filter(|entry| entry.header.state == NeighbourState::Permanent);
    Ok(lasting.filter_map(|entry| neighbor(&entry)).collect())
}

pub(super) fn neighbor(message: &NeighbourMessage) -> Option<Neighbor<()>> {
    let (mut ip, mut lladdr) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                lladdr = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Into::into);
            }
            _ => {}
        }
    }
    let ip: IpAddr = ip?;
    Some(Neighbor {
        ip: ip.try_into().ok()?,
        lladdr: lladdr?,
        device: (),
    })
}
