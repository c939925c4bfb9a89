//! Place of a card in the guest.

use std::fmt;

/// Place of a card in the guest, as its sysfs shows it to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The agent can't determine it.
    Unknown,
    /// The PCI device is absent, because the guest removed or never detected it.
    NotOnBus,
    /// No driver is bound to the card.
    NoDriver,
    /// Another driver than virtio's is bound to the PCI device, for example `vfio-pci`.
    OtherDriver(String),
    /// A driver is bound, and the interface is in a network namespace that the agent doesn't see.
    OtherNamespace,
    /// The interface is in the agent's network namespace.
    AgentNamespace,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "not visible to the agent"),
            Self::NotOnBus => write!(f, "not on the guest's PCI bus"),
            Self::NoDriver => write!(f, "without a driver"),
            Self::OtherDriver(driver) => write!(f, "bound to the driver {driver}"),
            Self::OtherNamespace => write!(f, "in another network namespace"),
            Self::AgentNamespace => write!(f, "in the agent's network namespace"),
        }
    }
}
