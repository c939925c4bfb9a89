//! Links of the host, in the network namespace of a sandbox.

use serde::{Deserialize, Serialize};

/// MTU and administrative state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Bytes.
    pub mtu: u32,
    /// Whether the link is set up.
    pub up: bool,
}
