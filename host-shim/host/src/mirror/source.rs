//! Link of a network namespace that can be mirrored.

use std::io;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NlasIterator};
use netlink_packet_route::link::LinkFlags;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{LinkName, MacAddr};

use crate::netns::{Rtnetlink, link_request};

/// Size of `ifinfomsg` (`linux/rtnetlink.h`): family u8, padding u8, device type u16, index u32,
/// flags u32, change mask u32.
const IFINFOMSG: usize = 16;
/// Missing in `libc`: `IFLA_PARENT_DEV_NAME` of `linux/if_link.h`, since Linux 5.14.
const IFLA_PARENT_DEV_NAME: u16 = 56;
/// Kinds (`IFLA_INFO_KIND`) that other programs attach to the machine, that have ports of their own, or that only
/// delay the frames of another link, such as that of a card's bandwidth limit.
const REFUSED_KINDS: [&str; 5] = ["tun", "bridge", "macvtap", "openvswitch", "ifb"];

/// Link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceLink {
    pub(crate) index: u32,
    pub(crate) mac: MacAddr,
    /// Bytes.
    pub(crate) mtu: u32,
}

/// Attributes of any link.
#[derive(Debug, Default)]
pub(super) struct AnyLink {
    pub(super) index: u32,
    pub(super) name: Vec<u8>,
    device_type: u16,
    pub(super) up: bool,
    mac: Vec<u8>,
    mtu: u32,
    pub(super) kind: String,
    has_parent: bool,
    /// Index of the bridge, or of the bond and so on, that the link is a port of.
    pub(super) controller: Option<u32>,
    /// Index of the link below it in the same namespace.
    pub(super) lower: Option<u32>,
}

impl SourceLink {
    /// Reads the link of this name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such a link; [`Kind::Unsupported`] for one that is not Ethernet, that
    /// is hardware, a bridge or a TAP.
    pub(super) fn read(rtnl: &Rtnetlink, name: &LinkName) -> Result<Self, Failure> {
        let link = AnyLink::read(rtnl, name).map_err(|error| failure(name, &error))?;
        let missing = || {
            let message = format!("link '{name}' doesn't exist in the sandbox's network namespace");
            Failure::new(Kind::NotFound, message).with_field("link")
        };
        link.ok_or_else(missing)?.check(name)
    }
}

/// Returns the index of a link; `None` without one of this name.
pub(crate) fn index(rtnl: &Rtnetlink, name: &LinkName) -> io::Result<Option<u32>> {
    Ok(AnyLink::read(rtnl, name)?.map(|link| link.index))
}

impl AnyLink {
    fn read(rtnl: &Rtnetlink, name: &LinkName) -> io::Result<Option<Self>> {
        rtnl.get_if_exists(&link_request(name))
    }

    /// Returns the MAC address if a card can have it.
    pub(super) fn mac(&self) -> Option<MacAddr> {
        let mac = <[u8; 6]>::try_from(self.mac.as_slice()).ok()?;
        MacAddr::try_from(mac).ok()
    }

    /// Checks that a card can replace the link.
    pub(super) fn check(&self, name: &LinkName) -> Result<SourceLink, Failure> {
        let refuse = |kind, rule: &str| {
            let message = format!("link '{name}' can't be mirrored: {rule}");
            Err(Failure::new(kind, message).with_field("link"))
        };
        let kind = self.kind.as_str();
        if self.device_type != libc::ARPHRD_ETHER {
            return refuse(Kind::Unsupported, "it is not an Ethernet link");
        }
        if REFUSED_KINDS.contains(&kind) {
            return refuse(Kind::Unsupported, &format!("its kind is {kind}"));
        }
        // Every virtual link has a kind.
        if self.has_parent || kind.is_empty() {
            return refuse(
                Kind::Unsupported,
                "it is hardware, which has to be passed through",
            );
        }
        if !self.up {
            return refuse(Kind::NotYet, "it is down");
        }
        let Some(mac) = self.mac() else {
            return refuse(Kind::Unsupported, "a card can't have its MAC address");
        };
        Ok(SourceLink {
            index: self.index,
            mac,
            mtu: self.mtu,
        })
    }
}

/// Returns the failure of reading or changing a link.
pub(super) fn failure(name: &LinkName, error: &io::Error) -> Failure {
    Failure::of_io(format!("could not mirror the link '{name}'"), error).with_field("link")
}

/// `netlink-packet-route` rejects links whose name or alias is not UTF-8.
impl NetlinkDeserializable for AnyLink {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from("a link is shorter than its header");
        let (header, attributes) = payload.split_first_chunk().ok_or_else(short)?;
        let [_, _, t0, t1, i0, i1, i2, i3, flags @ .., _, _, _, _]: &[u8; IFINFOMSG] = header;
        let flags = LinkFlags::from_bits_retain(u32::from_ne_bytes(*flags));
        let mut link = Self {
            index: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
            device_type: u16::from_ne_bytes([*t0, *t1]),
            up: flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        let number = |value: &[u8]| value.first_chunk().copied().map(u32::from_ne_bytes);
        let mut is_lower_elsewhere = false;
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::IFLA_MTU => link.mtu = number(value).ok_or_else(short)?,
                libc::IFLA_IFNAME => {
                    let name = value.split(|byte| *byte == 0).next();
                    link.name = name.unwrap_or_default().to_vec();
                }
                libc::IFLA_MASTER => link.controller = number(value),
                libc::IFLA_LINK => link.lower = number(value),
                libc::IFLA_LINK_NETNSID => is_lower_elsewhere = true,
                libc::IFLA_ADDRESS => link.mac = value.to_vec(),
                libc::IFLA_LINKINFO => {
                    let mut infos = NlasIterator::new(value).filter_map(Result::ok);
                    let kind = infos.find(|info| info.kind() == libc::IFLA_INFO_KIND);
                    let kind = kind.map(|info| {
                        let text = info.value().split(|byte| *byte == 0).next();
                        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
                    });
                    link.kind = kind.unwrap_or_default();
                }
                IFLA_PARENT_DEV_NAME => link.has_parent = true,
                _ => {}
            }
        }
        link.lower.take_if(|_| is_lower_elsewhere);
        Ok(link)
    }
}
