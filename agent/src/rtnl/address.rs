//! Addresses of links.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use patchbay_protocols::model::{Duplicates, InterfaceAddress};

use super::parse;
use crate::netlink::{Batch, Error, Flags, Kernel, Route, dump};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

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
pub fn of(kernel: &mut impl Kernel<Route>, index: u32) -> Result<Vec<InterfaceAddress>, Error> {
    let listed = list(kernel)?.into_iter();
    Ok(listed
        .filter(|listed| listed.index == index)
        .map(|listed| listed.address)
        .collect())
}

/// Every address of the namespace. Left out are the IPv6 link-local ones, which belong to the
/// kernel, and any that an interface of ours could not have.
pub fn list(kernel: &mut impl Kernel<Route>) -> Result<Vec<Listed>, Error> {
    let request = Batch::of(RTM_GETADDR, Flags::Dump, |body| {
        body.emit(&AddressMessage::default());
    });
    dump(kernel, &request, |payload| Ok(read(&parse(payload)?)))
}

fn read(message: &AddressMessage) -> Option<Listed> {
    let v6 = message.header.family == AddressFamily::Inet6;
    if v6 && message.header.scope == AddressScope::Link {
        return None;
    }
    // IFA_LOCAL is the interface's own address; on a point-to-point link IFA_ADDRESS is the peer's.
    // IPv6 without a peer has only IFA_ADDRESS.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
    let any = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
    let address = InterfaceAddress::new(local.or(any)?, message.header.prefix_len).ok()?;
    let flags = message.header.flags;
    Some(Listed {
        index: message.header.index,
        address,
        progress: if flags.contains(AddressHeaderFlags::Dadfailed) {
            Progress::Duplicate
        } else if flags.contains(AddressHeaderFlags::Tentative) {
            Progress::Tentative
        } else {
            Progress::Usable
        },
    })
}

/// Adds to a batch: link `index` gets the address.
///
/// An IPv4 network gets its broadcast address as `ip addr add … brd +` would.
pub fn add(
    batch: &mut Batch<Route>,
    index: u32,
    address: InterfaceAddress,
    duplicates: Duplicates,
) {
    let mut message = message(index, address);
    match (address.ip(), address.prefix()) {
        (IpAddr::V4(v4), prefix) if prefix < 31 => {
            let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = (u32::from(v4) | hosts).into();
            message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast));
        }
        (IpAddr::V6(_), _) if duplicates == Duplicates::Allowed => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => {}
    }
    batch.push(RTM_NEWADDR, Flags::Create, |body| body.emit(&message));
}

/// Adds to a batch: link `index` loses the address.
pub fn remove(batch: &mut Batch<Route>, index: u32, address: InterfaceAddress) {
    let message = message(index, address);
    batch.push(RTM_DELADDR, Flags::Plain, |body| body.emit(&message));
}

fn message(index: u32, address: InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix();
    message.header.family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message
        .attributes
        .push(AddressAttribute::Local(address.ip()));
    message
        .attributes
        .push(AddressAttribute::Address(address.ip()));
    message
}
