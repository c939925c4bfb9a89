//! Agent of a guest that configures its network, patchbay's or Kata's.

use std::fmt;
use std::time::Duration;

use patchbay_types::failure::Failure;
use patchbay_types::{
    AddressDetail, AdminState, Interface, LinkChange, LinkSpec, MacAddr, Neighbor, NeighborPattern,
    NetworkManager, PciPath, Place, Route, RoutePattern, RouteSpec, SlotPower,
};
use patchbay_wire::Feature;

use super::{Agent, Greeting, GuestWait};

/// Either agent.
pub type AnyAgent = Box<dyn GuestAgent>;

/// Property by which an agent recognizes the interface of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardIdentity {
    /// PCI path, which only the machine decides.
    Path,
    /// MAC address. The agent needs the cards of the machine to report their paths.
    Mac,
}

/// Network configuration of a guest. Each method fails with the agent's failure, and with
/// [`Kind::Unsupported`](patchbay_types::failure::Kind::Unsupported) if the agent can't do it; nothing is
/// changed then.
pub trait GuestAgent: fmt::Debug + Send {
    /// Completes the handshake and returns the agent's reply.
    fn greeting(&self) -> Result<Greeting, Failure>;

    /// Returns how the agent recognizes cards.
    fn card_identity(&self) -> CardIdentity;

    /// Takes the cards of the machine, for an agent that recognizes them by their MAC addresses.
    fn set_cards(&mut self, cards: Vec<(MacAddr, PciPath)>);

    /// Checks that the agent can configure a card, before it is plugged.
    fn check_link(&self, spec: &LinkSpec) -> Result<(), Failure>;

    /// Waits in the guest for the card, and configures it. A card at one of the paths `yielding` loses
    /// its name if `spec` has it.
    fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        yielding: &[PciPath],
        wait: GuestWait,
    ) -> Result<Interface, Failure>;

    /// Lists every interface of the guest. Not every agent can omit addresses.
    fn interfaces(&self, detail: AddressDetail) -> Result<Vec<Interface>, Failure>;

    /// Locates cards in the guest.
    fn places(&self, paths: &[PciPath]) -> Result<Vec<Place>, Failure>;

    /// Changes an interface of the guest and returns its new state, without addresses if the agent can omit them.
    fn update(&self, change: &LinkChange) -> Result<Interface, Failure>;

    /// Waits until a card that is unplugged is gone in the guest.
    fn release(&self, path: &PciPath, power: SlotPower, wait: Duration) -> Result<(), Failure>;

    /// Adds routes.
    fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure>;

    /// Replaces the guest's routes.
    fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure>;

    /// Deletes the routes that match one of the patterns.
    fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Failure>;

    /// Lists the guest's routes.
    fn routes(&self) -> Result<Vec<Route>, Failure>;

    /// Adds static neighbors.
    fn add_neighbors(&self, neighbors: &[Neighbor]) -> Result<(), Failure>;

    /// Deletes the static neighbors that match one of the patterns.
    fn delete_neighbors(&self, patterns: &[NeighborPattern]) -> Result<(), Failure>;

    /// Lists the static neighbors.
    fn neighbors(&self) -> Result<Vec<Neighbor>, Failure>;

    /// Marks a card before it is plugged, so that network managers exclude it.
    fn mark_card(&self, mac: MacAddr) -> Result<(), Failure>;

    /// Lists the programs in the guest that configure links on their own; `None` if the agent can't.
    fn managers(&self) -> Result<Option<Vec<NetworkManager>>, Failure>;

    /// Returns patchbay's agent, for what only that one does: IPVS, conntrack, settings, other network
    /// namespaces.
    fn patchbay(&self) -> Result<&Agent, Failure>;

    /// Returns patchbay's agent itself.
    fn into_patchbay(self: Box<Self>) -> Result<Agent, Failure>;
}

impl GuestAgent for Agent {
    fn greeting(&self) -> Result<Greeting, Failure> {
        self.greeting()
    }

    fn card_identity(&self) -> CardIdentity {
        CardIdentity::Path
    }

    fn set_cards(&mut self, _: Vec<(MacAddr, PciPath)>) {}

    fn check_link(&self, spec: &LinkSpec) -> Result<(), Failure> {
        if !spec.neighbors().is_empty() {
            self.require(Feature::Neighbors)?;
        }
        if !spec.addresses_without_prefix_route().is_empty() {
            self.require(Feature::PrefixRoutes)?;
        }
        if spec.state() == AdminState::Down || spec.promisc().is_some() {
            self.require(Feature::LinkFlags)?;
        }
        Ok(())
    }

    fn configure(
        &self,
        path: &PciPath,
        spec: &LinkSpec,
        yielding: &[PciPath],
        wait: GuestWait,
    ) -> Result<Interface, Failure> {
        self.configure_as(path, spec, yielding, wait)
    }

    fn interfaces(&self, detail: AddressDetail) -> Result<Vec<Interface>, Failure> {
        self.interfaces(detail)
    }

    fn places(&self, paths: &[PciPath]) -> Result<Vec<Place>, Failure> {
        self.places(paths)
    }

    fn update(&self, change: &LinkChange) -> Result<Interface, Failure> {
        self.update(change)
    }

    fn release(&self, path: &PciPath, power: SlotPower, wait: Duration) -> Result<(), Failure> {
        self.release(path, power, wait)
    }

    fn add_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        self.add_routes(specs)
    }

    fn replace_routes(&self, specs: &[RouteSpec]) -> Result<(), Failure> {
        self.replace_routes(specs)
    }

    fn delete_routes(&self, patterns: &[RoutePattern]) -> Result<(), Failure> {
        self.delete_routes(patterns)
    }

    fn routes(&self) -> Result<Vec<Route>, Failure> {
        self.routes()
    }

    fn add_neighbors(&self, neighbors: &[Neighbor]) -> Result<(), Failure> {
        self.add_neighbors(neighbors)
    }

    fn delete_neighbors(&self, patterns: &[NeighborPattern]) -> Result<(), Failure> {
        self.delete_neighbors(patterns)
    }

    fn neighbors(&self) -> Result<Vec<Neighbor>, Failure> {
        self.neighbors()
    }

    fn mark_card(&self, mac: MacAddr) -> Result<(), Failure> {
        self.mark_card(mac)
    }

    fn managers(&self) -> Result<Option<Vec<NetworkManager>>, Failure> {
        self.managers()
    }

    fn patchbay(&self) -> Result<&Agent, Failure> {
        Ok(self)
    }

    fn into_patchbay(self: Box<Self>) -> Result<Agent, Failure> {
        Ok(*self)
    }
}
