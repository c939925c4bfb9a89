//! Domain types that host and guest share. A value is checked once, by the constructor of its type.
//! The crate does no I/O.

mod address;
mod boot;
pub mod conntrack;
pub mod endpoint;
mod error;
mod event;
pub mod failure;
mod guest_netns;
mod interface;
pub mod ipvs;
mod link;
mod link_change;
mod link_flags;
mod mac;
mod manager;
mod name;
mod neighbor;
mod numbers;
mod pci;
mod place;
mod route;
mod socket;
pub mod text;

pub use address::{AddressDetail, InterfaceAddress};
pub use boot::BootId;
pub use error::{FieldError, InvalidValue};
pub use event::{AddressState, LinkState, NetEvent, NetObject};
pub use guest_netns::GuestNetns;
pub use interface::{Carrier, Interface};
pub use link::{DadPolicy, LinkFields, LinkSpec, ListedAddress, Owner, PrefixRoute};
pub use link_change::LinkChange;
pub use link_flags::{AdminState, Arp, LinkFlags, Promisc};
pub use mac::{LinkLayerAddr, MacAddr};
pub use manager::{CardTreatment, NetworkManager};
pub use name::{IfName, LinkName};
pub use neighbor::{
    MAX_CARD_NEIGHBORS, MAX_NEIGHBORS, Neighbor, NeighborAddress, NeighborPattern, check_neighbors,
};
pub use numbers::{Mtu, QueuePairs, RouteMtu, RouteProtocol, RouteTable, Scope};
pub use pci::{PciAddress, PciPath, SlotPower};
pub use place::Place;
pub use route::{
    Destination, MAX_ROUTES, Onlink, Route, RouteFields, RoutePattern, RouteRequest, RouteSpec,
};
pub use socket::SocketPath;
