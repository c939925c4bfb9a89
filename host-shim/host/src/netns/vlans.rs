//! VLANs of a bridge's port.

use std::io;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NlasIterator};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use super::Links;
use crate::vlan::VlanId;

/// Size of `ifinfomsg`, whose index is at 4.
const IFINFOMSG: usize = 16;
/// Attribute in `IFLA_AF_SPEC` of a port (`linux/if_bridge.h`).
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;

/// VLAN of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VlanMembership {
    id: VlanId,
    /// `BRIDGE_VLAN_INFO_PVID` and `BRIDGE_VLAN_INFO_UNTAGGED`.
    flags: u16,
}

impl VlanMembership {
    /// Creates the membership of a port whose frames have no tag.
    pub(crate) fn untagged(id: VlanId) -> Self {
        let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        let flags = flags.bits();
        Self { id, flags }
    }

    fn read(value: &[u8]) -> Option<Self> {
        let [f0, f1, i0, i1] = *value.first_chunk()?;
        let kept = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        Some(Self {
            id: VlanId::try_from(u16::from_ne_bytes([i0, i1])).ok()?,
            flags: u16::from_ne_bytes([f0, f1]) & kept.bits(),
        })
    }

    fn attribute(self) -> AfSpecBridge {
        AfSpecBridge::VlanInfo(BridgeVlanInfo {
            flags: BridgeVlanInfoFlags::from_bits_retain(self.flags),
            vid: self.id.get(),
        })
    }
}

impl Links {
    /// Reads the VLANs of a port.
    ///
    /// # Errors
    /// A link outside a bridge, which the kernel doesn't list.
    pub(crate) fn vlans(&self, port: u32) -> io::Result<Vec<VlanMembership>> {
        let mut message = of_bridge(0);
        let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]);
        message.attributes.push(mask);
        // A request for one link has no VLANs in its reply.
        let request = RouteNetlinkMessage::GetLink(message);
        let ports = self.rtnetlink().dump::<Port>(&request)?.into_iter();
        let mut ports = ports.filter(|found| found.index == port);
        let port = ports.next().map(|port| port.vlans);
        port.ok_or_else(|| io::Error::other("the link is not a port of a bridge any more"))
    }

    /// Gives a port these VLANs and no others, and reads that back.
    pub(crate) fn set_vlans(&self, port: u32, wanted: &[VlanMembership]) -> io::Result<()> {
        let now = self.vlans(port)?;
        let message = |vlans: &[VlanMembership]| {
            let mut message = of_bridge(port);
            let vlans = vlans.iter().map(|vlan| vlan.attribute()).collect();
            message.attributes.push(LinkAttribute::AfSpecBridge(vlans));
            message
        };
        let is_wanted = |id| wanted.iter().any(|vlan| vlan.id == id);
        let missing = wanted.iter().filter(|vlan| !now.contains(vlan)).copied();
        let missing: Vec<_> = missing.collect();
        let extra = now.iter().filter(|vlan| !is_wanted(vlan.id)).copied();
        let extra: Vec<_> = extra.collect();
        if !missing.is_empty() {
            let request = RouteNetlinkMessage::SetLink(message(&missing));
            self.rtnetlink().change(&request, 0)?;
        }
        if !extra.is_empty() {
            let request = RouteNetlinkMessage::DelLink(message(&extra));
            self.rtnetlink().change(&request, 0)?;
        }
        let now = self.vlans(port)?;
        if now.len() == wanted.len() && wanted.iter().all(|vlan| now.contains(vlan)) {
            return Ok(());
        }
        Err(io::Error::other("another process has changed the port"))
    }
}

fn of_bridge(port: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = port;
    message
}

/// Link in a dump of the ports of all bridges.
#[derive(Debug)]
pub(crate) struct Port {
    index: u32,
    vlans: Vec<VlanMembership>,
}

impl NetlinkDeserializable for Port {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from("a port is shorter than its header");
        let (header, attributes) = payload.split_at_checked(IFINFOMSG).ok_or_else(short)?;
        let index = header[4..].first_chunk().copied().ok_or_else(short)?;
        let mut vlans = Vec::new();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            if attribute.kind() != libc::IFLA_AF_SPEC {
                continue;
            }
            for nested in NlasIterator::new(attribute.value()) {
                let nested = nested?;
                if nested.kind() == IFLA_BRIDGE_VLAN_INFO {
                    vlans.extend(VlanMembership::read(nested.value()));
                }
            }
        }
        let index = u32::from_ne_bytes(index);
        Ok(Self { index, vlans })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Message of Linux 6.1 for a port with the VLANs 1 (PVID, untagged) and 20, as `strace bridge vlan` shows it.
    const PORT: &[u8] = &[
        7, 0, 1, 0, 5, 0, 0, 0, 2, 16, 0, 0, 0, 0, 0, 0, // header
        8, 0, 10, 0, 3, 0, 0, 0, // IFLA_MASTER
        20, 0, 26, 0, 8, 0, 2, 0, 6, 0, 1, 0, 8, 0, 2, 0, 0, 0, 20, 0, // IFLA_AF_SPEC
    ];

    #[test]
    fn port_has_its_vlans_and_short_messages_are_refused() {
        let read = |payload| Port::deserialize(&NetlinkHeader::default(), payload);
        let port = read(PORT).unwrap();
        let id = |id: u16| VlanId::try_from(id).unwrap();
        assert_eq!(port.index, 5);
        let tagged = VlanMembership {
            id: id(20),
            flags: 0,
        };
        assert_eq!(port.vlans, [VlanMembership::untagged(id(1)), tagged]);
        for length in [0, IFINFOMSG - 1, IFINFOMSG + 10, PORT.len() - 1] {
            let error = read(&PORT[..length]).err();
            assert!(error.is_some(), "{length}");
        }
    }
}
