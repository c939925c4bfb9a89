//! Requests to plug a card.

use crate::mirror::{MirrorRequest, MirroredLink};
use crate::sandbox::name_as_text;
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
