//! Requests to plug a card, and its settings on the host.

use crate::limit::Limit;
use crate::mirror::mirrored_link::MirroredLink;
use crate::mirror::request::MirrorRequest;
use crate::sandbox::name_as_text;
use crate::vlan::PortVlan;
use patchbay_types::{IfName, LinkName, LinkSpec, SocketPath};
use serde::{Deserialize, Serialize};

/// Request to plug a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardRequest {
    /// Host device: the name of a TAP, or a label of a vhost-user backend.
    pub device: LinkName,
    /// Connection of QEMU to the device.
    pub backend: Backend,
    /// Configuration in the guest.
    pub link: LinkSpec,
}

/// Request to plug a card, or one that replaces a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlugRequest {
    /// A card.
    Card(CardRequest),
    /// A card that replaces a link.
    Mirror(MirrorRequest),
}

impl PlugRequest {
    /// Returns the name of the card in the guest.
    #[must_use]
    pub fn name(&self) -> &IfName {
        match self {
            Self::Card(card) => &card.link.parts().name,
            Self::Mirror(request) => &request.name,
        }
    }
}

/// Connection of QEMU to a host device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// TAP with the name of the device.
    Tap,
    /// TAP with the name of the device, as a port of a bridge.
    Bridge(BridgePort),
    /// TAP that is wired to a link.
    Link(Box<MirroredLink>),
    /// vhost-user socket.
    VhostUser(SocketPath, Listener),
}

/// Port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    /// Bridge of the sandbox's network namespace or, if that has no link of this name, of the host's.
    #[serde(with = "name_as_text")]
    pub bridge: LinkName,
}

/// Side of a vhost-user socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    /// The backend; QEMU is the client.
    Backend,
    /// QEMU; the backend is the client and may restart at any time.
    Qemu,
}

/// State of a card's cable, as QEMU shows it to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cable {
    /// The guest's link has a carrier.
    #[default]
    Up,
    /// Unplugged.
    Down,
}

/// Settings of a card on the host; a new card has the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostSettings {
    /// State of the cable.
    #[serde(default)]
    pub cable: Cable,
    /// Limit of the traffic that the card receives.
    #[serde(default, skip_serializing_if = "Limit::is_none")]
    pub receive: Limit,
    /// Limit of the traffic that the card sends.
    #[serde(default, skip_serializing_if = "Limit::is_none")]
    pub send: Limit,
    /// VLAN of the bridge's port.
    #[serde(default, skip_serializing_if = "PortVlan::is_foreign")]
    pub vlan: PortVlan,
}

/// Change of a card's settings on the host; `None` keeps a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostChange {
    /// State of the cable.
    pub cable: Option<Cable>,
    /// Limit of the traffic that the card receives.
    pub receive: Option<Limit>,
    /// Limit of the traffic that the card sends.
    pub send: Option<Limit>,
    /// VLAN of the bridge's port.
    pub vlan: Option<PortVlan>,
}

impl HostChange {
    /// Returns the settings after the change.
    #[must_use]
    pub fn applied_to(self, settings: HostSettings) -> HostSettings {
        HostSettings {
            cable: self.cable.unwrap_or(settings.cable),
            receive: self.receive.unwrap_or(settings.receive),
            send: self.send.unwrap_or(settings.send),
            vlan: self.vlan.unwrap_or(settings.vlan),
        }
    }
}
