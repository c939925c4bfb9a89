//! Flags of an interface (`IFF_*` of `linux/if.h`).

/// ARP of an interface (`IFF_NOARP` inverted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arp {
    /// The kernel's default.
    On,
    /// `IFF_NOARP` is set.
    Off,
}

/// Administrative state of an interface (`IFF_UP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    /// It is in use.
    Up,
    /// It carries nothing, and the kernel has removed its routes.
    Down,
}

impl From<bool> for AdminState {
    /// Converts the flag of JSON and the kernel, which is `true` for up.
    fn from(up: bool) -> Self {
        if up { Self::Up } else { Self::Down }
    }
}

/// Promiscuous mode of an interface (`IFF_PROMISC`) as it was requested by the flag. Packet sockets and
/// bridges, which need it too, don't set the flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promisc {
    /// The interface receives frames for any MAC address.
    On,
    /// It receives those for its own, broadcasts, and multicasts that it has joined.
    Off,
}

impl From<bool> for Promisc {
    /// Converts the flag of JSON and the kernel, which is `true` for on.
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// Flags that a change sets; `None` leaves a flag unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkFlags {
    /// Administrative state.
    pub state: Option<AdminState>,
    /// ARP.
    pub arp: Option<Arp>,
    /// Promiscuous mode.
    pub promisc: Option<Promisc>,
}
