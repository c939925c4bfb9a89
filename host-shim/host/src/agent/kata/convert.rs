//! Types to Kata's messages and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use patchbay_types::failure::Failure;
use patchbay_types::{
    Arp, FieldError, Interface, InterfaceAddress, LinkName, ListedAddress, Neighbor, Onlink, Owner,
    Route, RouteSpec, Scope,
};
use patchbay_wire::proto::kata as wire;
use protobuf::MessageField;

use super::super::protocol_error;

/// `RTNH_F_ONLINK` (linux/rtnetlink.h).
const ONLINK: u32 = 4;
/// `NUD_PERMANENT` (linux/neighbour.h).
const PERMANENT: i32 = 0x80;

fn family(ip: IpAddr) -> wire::IPFamily {
    match ip {
        IpAddr::V4(_) => wire::IPFamily::v4,
        IpAddr::V6(_) => wire::IPFamily::v6,
    }
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

pub(super) fn address(address: InterfaceAddress) -> wire::IPAddress {
    wire::IPAddress {
        family: family(address.ip()).into(),
        address: address.ip().to_string(),
        mask: address.prefix().to_string(),
        ..wire::IPAddress::default()
    }
}

/// Reads a listed address. The agent reports the families the wrong way round, so the text counts.
fn listed_address(address: &wire::IPAddress) -> Option<ListedAddress> {
    let ip: IpAddr = address.address.parse().ok()?;
    let address = InterfaceAddress::new(ip, address.mask.parse().ok()?).ok()?;
    // The kernel sets them, and the agent reports no owner.
    (!is_link_local(ip)).then_some(ListedAddress {
        address,
        owner: Owner::Other,
    })
}

/// Reads listed interfaces, which are in the order of their indices. Interfaces that are down and without ARP are
/// not distinguished from others. Addresses that an interface can't be given here are omitted.
pub(super) fn interfaces(reply: &wire::Interfaces) -> Result<Vec<Interface>, Failure> {
    let interface = |(position, listed): (usize, &wire::Interface)| {
        let field = |error: patchbay_types::InvalidValue| error.in_field("interfaces");
        Ok::<_, FieldError>(Interface {
            index: u32::try_from(position).unwrap_or(u32::MAX),
            name: listed.name.parse().map_err(field)?,
            mac: listed.hwAddr.parse().ok(),
            mtu: u32::try_from(listed.mtu).unwrap_or(u32::MAX),
            addresses: listed
                .IPAddresses
                .iter()
                .filter_map(listed_address)
                .collect(),
            path: None,
            queues: None,
            up: true,
            arp: Arp::On,
            carrier: None,
            promisc: None,
        })
    };
    let all = reply.Interfaces.iter().enumerate().map(interface);
    all.collect::<Result<_, _>>().map_err(protocol_error)
}

pub(super) fn route(spec: &RouteSpec) -> wire::Route {
    let Route {
        dest,
        gateway,
        source,
        device,
        scope,
        onlink,
        mtu,
        ..
    } = spec.resolve();
    let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    wire::Route {
        dest: if dest.prefix_len() == 0 {
            String::new()
        } else {
            dest.to_string()
        },
        gateway: text(gateway),
        device: device.to_string(),
        // A prefix of another length would be the source of the packets to match.
        source: source.map(|ip| format!("{ip}/0")).unwrap_or_default(),
        scope: scope.get().into(),
        family: family(dest.addr()).into(),
        flags: match onlink {
            Onlink::On => ONLINK,
            Onlink::Off => 0,
        },
        mtu: mtu.map(|mtu| mtu.get().into()).unwrap_or_default(),
        ..wire::Route::default()
    }
}

/// Reads the destination of a listed route: a network, or an address without a prefix length, for a
/// route with a gateway.
pub(super) fn destination(text: &str, gateway: Option<IpAddr>) -> Option<IpNet> {
    match gateway {
        Some(IpAddr::V4(_)) => Some(IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0).ok()?),
        Some(IpAddr::V6(_)) => Some(IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0).ok()?),
        None => text.parse().ok(),
    }
}

pub(super) fn scope(number: u32) -> Option<Scope> {
    Scope::try_from(u64::from(number)).ok()
}

pub(super) fn neighbors(neighbors: &[Neighbor]) -> wire::AddARPNeighborsRequest {
    request(
        neighbors
            .iter()
            .map(|neighbor| entry(neighbor, &neighbor.device)),
    )
}

pub(super) fn card_neighbors(
    neighbors: &[Neighbor<()>],
    device: &LinkName,
) -> wire::AddARPNeighborsRequest {
    request(neighbors.iter().map(|neighbor| entry(neighbor, device)))
}

fn request(entries: impl Iterator<Item = wire::ARPNeighbor>) -> wire::AddARPNeighborsRequest {
    wire::AddARPNeighborsRequest {
        neighbors: MessageField::some(wire::ARPNeighbors {
            ARPNeighbors: entries.collect(),
            ..wire::ARPNeighbors::default()
        }),
        ..wire::AddARPNeighborsRequest::default()
    }
}

fn entry<D>(neighbor: &Neighbor<D>, device: &LinkName) -> wire::ARPNeighbor {
    let ip = neighbor.ip.get();
    wire::ARPNeighbor {
        toIPAddress: MessageField::some(wire::IPAddress {
            family: family(ip).into(),
            address: ip.to_string(),
            ..wire::IPAddress::default()
        }),
        device: device.to_string(),
        lladdr: neighbor.lladdr.to_string(),
        state: PERMANENT,
        ..wire::ARPNeighbor::default()
    }
}
