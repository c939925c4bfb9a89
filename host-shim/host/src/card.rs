//! A request to plug a card: its device on the host, and its configuration in the guest.

use patchbay_types::{IfName, LinkSpec, SocketPath};
use serde::{Deserialize, Serialize};

/// A request to plug a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardRequest {
    /// Device on the host: the name of a TAP, or a label for the port of another program.
    pub device: IfName,
    /// How QEMU reaches the device.
    pub backend: Backend,
    /// Configuration in the guest.
    pub link: LinkSpec,
}

/// How QEMU reaches the host's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// By the TAP of that name.
    Tap,
    /// By a vhost-user socket.
    VhostUser(SocketPath, Listener),
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
