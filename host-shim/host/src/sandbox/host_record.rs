//! Settings of a card on the host in the journal.

use patchbay_types::LinkName;
use serde::{Deserialize, Serialize};

use super::name_as_text;
use crate::card::HostSettings;
use crate::mirror::WireRecord;
use crate::netns::VlanMembership;

/// Settings of a card, and a change of them that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    #[serde(flatten)]
    pub(crate) now: HostSettings,
    /// Settings before a change that has begun, and that the next command undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<HostSettings>,
    /// Present while the traffic that the card sends is or was limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shaper: Option<ShaperRecord>,
    /// Present while the TAP has or had a VLAN of its card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port_vlans: Option<VlanRecord>,
}

impl HostRecord {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether the TAP has, or can have, a limit of the traffic that the card receives.
    pub(crate) fn limits_received(&self) -> bool {
        let settings = [Some(self.now), self.before].into_iter().flatten();
        settings
            .into_iter()
            .any(|settings| !settings.receive.is_none())
    }
}

/// VLANs of the bridge's port before its card was given one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VlanRecord {
    /// Interface index of the bridge: a port that leaves it loses its VLANs.
    pub(crate) bridge: u32,
    pub(crate) before: Vec<VlanMembership>,
}

/// Device of the kind `ifb` through which the frames pass that a card sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShaperRecord {
    #[serde(with = "name_as_text")]
    pub(crate) device: LinkName,
    /// The TAP, which passes its frames to the device.
    pub(crate) tap: WireRecord,
}
