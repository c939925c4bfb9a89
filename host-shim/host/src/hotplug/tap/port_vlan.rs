//! VLANs of the bridge's port that a TAP is (decision 0023).

use std::io;

use patchbay_types::failure::{Failure, Kind};

use super::Tap;
use crate::netns::{HostLinkKind, VlanMembership};
use crate::sandbox::VlanRecord;
use crate::vlan::PortVlan;

impl Tap {
    /// Reads the VLANs of the port, unless `known` has them already.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a device outside a bridge, and a bridge that doesn't filter VLANs.
    pub(in crate::hotplug) fn vlans_of_port(
        &self,
        known: Option<&VlanRecord>,
    ) -> Result<VlanRecord, Failure> {
        let link = self.present()?;
        let invalid = |message: String| Failure::new(Kind::Invalid, message).with_field("vlan");
        let bridge = match link.controller {
            Some(index) => self
                .links
                .link_at(index)
                .map_err(|error| self.vlan_failure(&error))?,
            None => None,
        };
        let bridge = bridge.map(|bridge| (bridge.index, bridge.kind));
        let Some((bridge, HostLinkKind::Bridge { filters_vlans })) = bridge else {
            return Err(invalid(format!(
                "device '{}' is not a port of a bridge: make it one ('ip link set {} master BRIDGE')",
                self.device, self.device
            )));
        };
        if !filters_vlans {
            return Err(invalid(format!(
                "the bridge of the device '{}' doesn't filter VLANs: let it ('ip link set BRIDGE type bridge \
                 vlan_filtering 1')",
                self.device
            )));
        }
        if let Some(known) = known.filter(|known| known.bridge == bridge) {
            return Ok(known.clone());
        }
        let before = self.links.vlans(link.index);
        let before = before.map_err(|error| self.vlan_failure(&error))?;
        Ok(VlanRecord { bridge, before })
    }

    /// Gives the port a VLAN, or those that it had. A device that has left the bridge has lost all of them.
    pub(in crate::hotplug) fn set_vlan(
        &self,
        record: &VlanRecord,
        to: PortVlan,
    ) -> Result<(), Failure> {
        let link = match (self.link()?, to) {
            (Some(link), _) if link.controller == Some(record.bridge) => link,
            (_, PortVlan::Foreign) => return Ok(()),
            (_, PortVlan::Untagged(_)) => {
                let message = format!(
                    "device '{}' has left its bridge: put it back, and configure the card anew (nic apply)",
                    self.device
                );
                return Err(Failure::new(Kind::NotFound, message).with_field("vlan"));
            }
        };
        let set = match to {
            PortVlan::Foreign => self.links.set_vlans(link.index, &record.before),
            PortVlan::Untagged(id) => {
                let wanted = [VlanMembership::untagged(id)];
                self.links.set_vlans(link.index, &wanted)
            }
        };
        set.map_err(|error| self.vlan_failure(&error))
    }

    fn vlan_failure(&self, error: &io::Error) -> Failure {
        let message = format!(
            "could not read or change the VLANs of the port '{}'",
            self.device
        );
        Failure::of_io(message, error).with_field("vlan")
    }
}
