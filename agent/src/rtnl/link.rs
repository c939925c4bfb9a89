//! Links.

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use patchbay_protocols::model::{Arp, IfName, MacAddr, Mtu};

use super::parse;
use crate::netlink::{Batch, Error, Flags, Kernel, Route, dump};

const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

/// A link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index, never reused while the kernel runs.
    pub index: u32,
    /// Its name of the moment.
    pub name: String,
    /// Its present MAC address, where it has a proper one.
    pub mac: Option<MacAddr>,
    /// Bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFF_LOWER_UP`: up, and its device has a carrier.
    pub carrier: bool,
    /// `IFF_NOARP`.
    pub arp: Arp,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            arp: if flags.contains(LinkFlags::Noarp) {
                Arp::Off
            } else {
                Arp::On
            },
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => {
                    let octets = <[u8; 6]>::try_from(bytes).ok();
                    link.mac = octets.and_then(|octets| MacAddr::try_from(octets).ok());
                }
                _ => {}
            }
        }
        link
    }
}

/// Every link of the namespace.
pub fn list(kernel: &mut impl Kernel<Route>) -> Result<Vec<Link>, Error> {
    let request = Batch::of(RTM_GETLINK, Flags::Dump, |body| {
        body.emit(&LinkMessage::default());
    });
    dump(kernel, &request, |payload| {
        Ok(Some(parse::<LinkMessage>(payload)?.into()))
    })
}

/// One change of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// To this name.
    Name(IfName),
    /// To this MTU.
    Mtu(Mtu),
    /// To answer ARP or not.
    Arp(Arp),
    /// Up.
    Up,
    /// Down.
    Down,
}

/// Adds the change of link `index` to a batch.
pub fn change(batch: &mut Batch<Route>, index: u32, change: &Change) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let mut flag = |flag, value| {
        message.header.change_mask = flag;
        message.header.flags = value;
    };
    match change {
        Change::Name(name) => message
            .attributes
            .push(LinkAttribute::IfName(name.to_string())),
        Change::Mtu(mtu) => message
            .attributes
            .push(LinkAttribute::Mtu(u32::from(mtu.get()))),
        Change::Arp(Arp::Off) => flag(LinkFlags::Noarp, LinkFlags::Noarp),
        Change::Arp(Arp::On) => flag(LinkFlags::Noarp, LinkFlags::empty()),
        Change::Up => flag(LinkFlags::Up, LinkFlags::Up),
        Change::Down => flag(LinkFlags::Up, LinkFlags::empty()),
    }
    batch.push(RTM_SETLINK, Flags::Plain, |body| body.emit(&message));
}
