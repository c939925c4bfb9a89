//! Links of a namespace, and which of them nothing serves.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use patchbay_types::{LinkName, MacAddr};

use super::source::AnyLink;
use super::wire;
use crate::netns::{Netns, Rtnetlink};

/// Kinds of links that take over the frames or the addresses of a link below them, as Kata's macvtap does.
const STACKED_KINDS: [&str; 5] = ["macvtap", "ipvtap", "macvlan", "ipvlan", "vlan"];

/// Links of a namespace at one moment.
#[derive(Debug)]
pub(crate) struct Survey {
    rtnl: Rtnetlink,
    links: Vec<AnyLink>,
}

/// Link that a card can replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SurveyedLink {
    pub(crate) name: LinkName,
    pub(crate) index: u32,
    pub(crate) mac: MacAddr,
}

impl Survey {
    /// Reads the links.
    pub(crate) fn read(netns: &Netns) -> io::Result<Self> {
        let rtnl = Rtnetlink::open(netns)?;
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = rtnl.dump(&request)?;
        Ok(Self { rtnl, links })
    }

    /// Returns whether the link of this index has this name, and whether it is up; `None` without one.
    pub(crate) fn is_up(&self, index: u32, name: &LinkName) -> Option<bool> {
        let mut links = self.links.iter();
        let link = links.find(|link| link.index == index && link.name == name.as_bytes())?;
        Some(link.up)
    }

    /// Returns the MAC address of a link, if it can be that of a card.
    pub(crate) fn mac(&self, index: u32) -> Option<MacAddr> {
        self.links.iter().find(|link| link.index == index)?.mac()
    }

    /// Lists the links that are up, that a card can replace, and whose frames nothing takes: neither a
    /// filter, as that of a card or of Kata, nor a bridge or a link above.
    pub(crate) fn unserved(&self) -> io::Result<Vec<SurveyedLink>> {
        let mut unserved = Vec::new();
        for link in &self.links {
            let Ok(name) = LinkName::try_from(link.name.as_slice()) else {
                continue;
            };
            let Ok(source) = link.check(&name) else {
                continue;
            };
            if link.controller.is_some() || self.is_below_another(link) {
                continue;
            }
            match wire::has_filters(&self.rtnl, link.index) {
                Ok(false) => unserved.push(SurveyedLink {
                    name,
                    index: source.index,
                    mac: source.mac,
                }),
                Ok(true) => {}
                Err(error) if wire::is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unserved)
    }

    fn is_below_another(&self, link: &AnyLink) -> bool {
        self.links.iter().any(|other| {
            other.lower == Some(link.index) && STACKED_KINDS.contains(&other.kind.as_str())
        })
    }
}
