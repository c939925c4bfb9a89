//! The domain types. Each has one constructor, and none can hold what that constructor refuses.

mod address;
mod error;
mod link;
mod mac;
mod mtu;
mod name;
mod pci;
mod queues;
mod route;
mod scope;
mod socket;

pub use address::InterfaceAddress;
pub use error::{BadValue, Invalid};
pub use link::{Arp, Duplicates, Interface, LinkChange, LinkParts, LinkSpec};
pub use mac::MacAddr;
pub use mtu::Mtu;
pub use name::IfName;
pub use pci::{PciAddress, PciPath};
pub use queues::QueuePairs;
pub use route::{Destination, MAX_ROUTES, Route, RouteParts, RoutePattern, RouteSpec, Way};
pub use scope::Scope;
pub use socket::SocketPath;
