//! Programs of a guest that configure links on their own.

/// Running network manager or DHCP client of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkManager {
    /// Name of the program.
    pub name: String,
    /// Process id in the guest.
    pub pid: u32,
    /// Its treatment of patchbay's cards.
    pub cards: CardTreatment,
}

/// Treatment of patchbay's cards by a network manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardTreatment {
    /// Its configuration excludes them.
    Excluded,
    /// Nothing that the agent knows of excludes them.
    Managed,
}
