//! VLANs of a TAP that is a port of a bridge (decision 0023).

use std::io;

use patchbay_types::failure::{Failure, Kind};

use super::Tap;
use crate::netns::{HostLink, HostLinkKind, VlanMembership};
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
                "the bridge of the device '{}' must filter VLANs ('ip link set BRIDGE type bridge \
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
        let link = self.link()?;
        let port = link.filter(|link| link.controller == Some(record.bridge));
        match (port, to) {
            (None, _) => Ok(()),
            (Some(port), PortVlan::Foreign) => self.restore_vlans(port, record),
            (Some(port), PortVlan::Untagged(id)) => {
                let set = self
                    .links
                    .set_vlans(port.index, &[VlanMembership::untagged(id)]);
                set.map_err(|error| self.vlan_failure(&error))
            }
        }
    }

    /// Gives the port the VLANs that it had. A device that has left the bridge has lost all of them.
    pub(in crate::hotplug) fn restore_vlans(
        &self,
        link: HostLink,
        record: &VlanRecord,
    ) -> Result<(), Failure> {
        if link.controller != Some(record.bridge) {
            return Ok(());
        }
        let set = self.links.set_vlans(link.index, &record.before);
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
