//! Errors of operations on links, addresses and routes.

use std::fmt;
use std::io;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AdminState, Arp, IfName, InterfaceAddress, LinkLayerAddr, LinkName, MAX_NEIGHBORS, MAX_ROUTES,
    MacAddr, Neighbor, NeighborAddress, NeighborPattern, PciPath, Promisc, QueuePairs, Route,
    RoutePattern,
};

use crate::cancellation::Cancelled;
use crate::rtnl::link::SetLink;
use patchbay_netlink::KernelError;

/// Change that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigAction {
    /// Change a setting of the link.
    SetLink(SetLink),
    /// Set the number of queue pairs.
    Queues(QueuePairs),
    /// Add an address.
    AddAddress(InterfaceAddress),
    /// Remove an address.
    RemoveAddress(InterfaceAddress),
    /// Add a route.
    AddRoute(Box<Route>),
    /// Delete a route.
    RemoveRoute(Box<Route>),
    /// Restore a route that was lost with an address or while the link was down.
    RestoreRoute,
    /// Add a static neighbor.
    AddNeighbor(NeighborAddress),
    /// Delete a static neighbor.
    RemoveNeighbor(NeighborAddress),
}

impl fmt::Display for ConfigAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetLink(SetLink::Name(name)) => write!(f, "rename the card to {name}"),
            Self::SetLink(SetLink::Mtu(mtu)) => write!(f, "set the card's mtu to {mtu}"),
            Self::SetLink(SetLink::Arp(_)) => write!(f, "set whether the card answers ARP"),
            Self::SetLink(SetLink::Promisc(_)) => write!(f, "set the card's promiscuous mode"),
            Self::SetLink(SetLink::State(AdminState::Up)) => write!(f, "set the card up"),
            Self::SetLink(SetLink::State(AdminState::Down)) => write!(f, "set the card down"),
            Self::SetLink(SetLink::Secondaries(_)) => {
                write!(f, "set whether the card keeps secondary addresses")
            }
            Self::Queues(pairs) => write!(f, "set the card's queues to {pairs}"),
            Self::AddAddress(address) => write!(f, "add the address {address}"),
            Self::RemoveAddress(address) => write!(f, "remove the address {address}"),
            Self::AddRoute(route) => write!(f, "add the route {route}"),
            Self::RemoveRoute(route) => write!(f, "delete the route {route}"),
            Self::RestoreRoute => write!(f, "restore a route that was lost with the change"),
            Self::AddNeighbor(ip) => write!(f, "add the neighbor {ip}"),
            Self::RemoveNeighbor(ip) => write!(f, "delete the neighbor {ip}"),
        }
    }
}

/// State of a link that differs from the request after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Its name.
    Name(LinkName),
    /// Its MTU in bytes.
    Mtu(u32),
    /// Its number of queue pairs.
    Queues(QueuePairs),
    /// Whether it answers ARP.
    Arp(Arp),
    /// Its promiscuous mode.
    Promisc(Promisc),
    /// Its administrative state.
    State(AdminState),
    /// A requested address is missing.
    Missing(InterfaceAddress),
    /// An address that was removed is there again.
    Restored(InterfaceAddress),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "its name is {name}"),
            Self::Mtu(mtu) => write!(f, "its mtu is {mtu}"),
            Self::Queues(pairs) => write!(f, "it has {pairs} queues"),
            Self::Arp(Arp::On) => write!(f, "it answers ARP"),
            Self::Arp(Arp::Off) => write!(f, "it doesn't answer ARP"),
            Self::Promisc(Promisc::On) => write!(f, "it is in promiscuous mode"),
            Self::Promisc(Promisc::Off) => write!(f, "it is not in promiscuous mode"),
            Self::State(AdminState::Down) => write!(f, "it is down"),
            Self::State(AdminState::Up) => write!(f, "it is up"),
            Self::Missing(address) => write!(f, "it lacks the address {address}"),
            Self::Restored(address) => write!(f, "it has the address {address} again"),
        }
    }
}

/// Failure of an operation on links, addresses or routes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The card did not appear before the deadline.
    #[error("no card with MAC {mac} appeared at PCI path {path} in time")]
    NoCard {
        /// Expected PCI path.
        path: PciPath,
        /// Expected MAC address.
        mac: MacAddr,
    },
    /// The slot of a card that is unplugged can't be powered off.
    #[error("could not power off the slot of the card at PCI path {path}")]
    Slot {
        /// PCI path of the card.
        path: PciPath,
        /// Error of the hot-plug driver.
        source: io::Error,
    },
    /// A card that is unplugged is still there at the deadline.
    #[error("the card at PCI path {0} was not released in time")]
    NotReleased(PciPath),
    /// A later request has claimed the PCI path.
    #[error("a later request configures the card at PCI path {0}")]
    Superseded(PciPath),
    /// A later request has undone the change while it waited.
    #[error("a later request has changed the interface {0} and undone this one")]
    Overtaken(LinkName),
    /// The card at the PCI path has another MAC address.
    #[error("the card at PCI path {path} has MAC {found}, not {wanted}")]
    OtherMac {
        /// PCI path.
        path: PciPath,
        /// MAC address in the request.
        wanted: MacAddr,
        /// MAC address of the card.
        found: MacAddr,
    },
    /// Another link has the name.
    #[error("the name {0} is taken by another interface of the guest")]
    NameTaken(IfName),
    /// The link was removed during its configuration.
    #[error("the card for {0} was removed while it was configured")]
    Gone(LinkName),
    /// No interface has the name. The incumbent's words.
    #[error("can not find the network interface {0} in the guest")]
    NoInterface(LinkName),
    /// An interface has the name, and the card that was plugged under it is another one.
    #[error("the name {name} is ambiguous: {}", ambiguity(card.as_ref()))]
    AmbiguousName {
        /// Name in the request.
        name: LinkName,
        /// Present name of the card; `None` if it has no interface in this network namespace.
        card: Option<LinkName>,
    },
    /// Below an MTU of 1280 the kernel disables IPv6 on the interface.
    #[error("{address} needs an mtu of at least 1280 bytes, not {mtu}")]
    SmallMtu {
        /// IPv6 address that would be lost.
        address: InterfaceAddress,
        /// MTU in bytes.
        mtu: u32,
    },
    /// The kernel ends IPv6 on the loopback below 1280, and programs rely on its size.
    #[error("the loopback keeps its mtu of {0} bytes")]
    LoopbackMtu(u32),
    /// Another program has set an address of the request with another prefix length, and the kernel
    /// allows only one.
    #[error("could not add the address {wanted}: another program in the guest has set {found}")]
    AddressTaken {
        /// Address in the request.
        wanted: InterfaceAddress,
        /// Address of the link.
        found: InterfaceAddress,
    },
    /// The link is not as requested when the change has ended.
    #[error("another program in the guest has changed the interface meanwhile: {0}")]
    Differs(Difference),
    /// Duplicate address detection found another host with the address.
    #[error("the address {0} belongs to another host on the link")]
    Duplicate(InterfaceAddress),
    /// Duplicate address detection did not finish.
    #[error("duplicate address detection for {0} timed out")]
    Tentative(InterfaceAddress),
    /// The device of a route does not exist. The incumbent's words.
    #[error("Could not find link from device {0}")]
    NoDevice(LinkName),
    /// Another route has the same destination and metric.
    #[error("could not add the route {requested}: there is {found}")]
    RouteExists {
        /// Route in the request.
        requested: Box<Route>,
        /// Other route, from the table or from the same request.
        found: Box<Route>,
    },
    /// No route matches a pattern.
    #[error("no route in the guest matches {0}")]
    NoRoute(Box<RoutePattern>),
    /// The main table has more routes than a response can hold.
    #[error("the guest has {0} routes, and at most {MAX_ROUTES} can be listed")]
    TooManyRoutes(usize),
    /// A static neighbor has another link-layer address.
    #[error("could not add the neighbor {requested}: it has the address {found}")]
    NeighborExists {
        /// Neighbor in the request.
        requested: Box<Neighbor>,
        /// Link-layer address of the existing entry.
        found: LinkLayerAddr,
    },
    /// No static neighbor matches a pattern.
    #[error("no static neighbor in the guest matches {0}")]
    NoNeighbor(Box<NeighborPattern>),
    /// A link without neighbors.
    #[error("device '{0}' has no neighbors: it is a loopback or point-to-point")]
    NoNeighbors(LinkName),
    /// The kernel accepted a neighbor, and has removed it.
    #[error("the guest has removed the neighbor {0} again: is its interface up?")]
    NeighborLost(NeighborAddress),
    /// The tables have more static neighbors than a response can hold.
    #[error("the guest has {0} static neighbors, and at most {MAX_NEIGHBORS} can be listed")]
    TooManyNeighbors(usize),
    /// Error of an element of the request's list.
    #[error("{inner}")]
    At {
        /// Position in the list, from 0.
        index: usize,
        /// Its error.
        inner: Box<Error>,
    },
    /// The kernel refused a change.
    #[error("could not {action}")]
    Refused {
        /// Change.
        action: ConfigAction,
        /// Kernel's error.
        error: KernelError,
    },
    /// The device supports fewer queue pairs than requested.
    #[error("could not set the card's queues to {wanted}: it offers {offered}")]
    Queues {
        /// Number in the request.
        wanted: QueuePairs,
        /// Maximum of the device.
        offered: QueuePairs,
    },
    /// A card can't be marked for udev.
    #[error("could not mark the card for the guest's network managers")]
    Mark(#[source] io::Error),
    /// The processes can't be listed.
    #[error("could not list the processes of the guest")]
    Processes(#[source] io::Error),
    /// A netlink socket failed, or the kernel refused a dump.
    #[error("netlink request failed")]
    Netlink(#[from] patchbay_netlink::Error),
    /// The host has cancelled the request.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A request failed, and its rollback failed too.
    #[error("{first}")]
    NotUndone {
        /// Error of the request.
        first: Box<Error>,
        /// Error of the rollback.
        undo: Box<Error>,
    },
}

/// Describes the card that was plugged under a name which another interface has.
fn ambiguity(card: Option<&LinkName>) -> String {
    match card {
        Some(name) => format!("another interface has it, and the card plugged under it is now '{name}'"),
        None => "another interface has it, and the card plugged under it is not in this network namespace".to_owned(),
    }
}

impl Error {
    /// Returns this error of a request, with that of its rollback if that failed too.
    pub(super) fn after_undo(self, undone: Result<(), Self>) -> Self {
        match undone {
            Ok(()) => self,
            Err(undo) => Self::NotUndone {
                first: self.into(),
                undo: undo.into(),
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let of = |kind| Failure::of(kind, &error);
        match error {
            Error::NoCard { .. }
            | Error::Superseded(_)
            | Error::Overtaken(_)
            | Error::OtherMac { .. }
            | Error::NotReleased(_)
            | Error::Gone(_)
            | Error::Differs(_) => of(Kind::NotYet),
            Error::Mark(_) | Error::Processes(_) => of(Kind::Other),
            Error::Slot { ref source, .. } => match source.kind() {
                io::ErrorKind::NotFound => of(Kind::Unsupported),
                _ => of(source.raw_os_error().map_or(Kind::Other, Kind::from_errno)),
            },
            Error::Tentative(_) => of(Kind::NotYet).with_field("addresses"),
            Error::Duplicate(_) | Error::AddressTaken { .. } => {
                of(Kind::Exists).with_field("addresses")
            }
            Error::NoInterface(_) => of(Kind::NotFound).with_field("name"),
            Error::AmbiguousName { .. } => of(Kind::Invalid).with_field("name"),
            Error::NameTaken(_) => of(Kind::Exists).with_field("name"),
            Error::SmallMtu { .. } | Error::LoopbackMtu(_) => of(Kind::Invalid).with_field("mtu"),
            Error::Queues { .. } => of(Kind::Invalid).with_field("queues"),
            Error::NoDevice(_) => of(Kind::NotFound).with_field("device"),
            Error::RouteExists { .. } => of(Kind::Exists).with_field("dest"),
            Error::NoRoute(_) => of(Kind::NotFound).with_field("dest"),
            Error::TooManyRoutes(_) | Error::TooManyNeighbors(_) => of(Kind::Unsupported),
            Error::NeighborExists { .. } => of(Kind::Exists).with_field("lladdr"),
            Error::NoNeighbor(_) => of(Kind::NotFound).with_field("ip"),
            Error::NoNeighbors(_) => of(Kind::Invalid).with_field("device"),
            Error::NeighborLost(_) => of(Kind::Kernel),
            Error::At { index, inner } => {
                let failure = Failure::from(*inner);
                let field = failure.field().map(|field| format!(".{field}"));
                failure.with_field(format!("[{index}]{}", field.unwrap_or_default()))
            }
            Error::Refused {
                error: ref kernel, ..
            } => refused(&error, kernel).with_cause(kernel.to_string()),
            Error::Netlink(ref source) => of_netlink(&error, source),
            Error::Cancelled(cancelled) => cancelled.into(),
            Error::NotUndone { first, undo } => {
                let undo = Failure::from(*undo);
                let cause = format!("and it could not be undone: {undo}");
                undo.chain()
                    .fold(Failure::from(*first).with_cause(cause), Failure::with_cause)
            }
        }
    }
}

/// Converts the error of an operation whose netlink request failed.
pub(super) fn of_netlink(
    error: &dyn std::error::Error,
    source: &patchbay_netlink::Error,
) -> Failure {
    match source {
        patchbay_netlink::Error::Refused(kernel) => refused(error, kernel),
        _ => Failure::of(Kind::Other, error),
    }
}

fn refused(error: &dyn std::error::Error, kernel: &KernelError) -> Failure {
    Failure::of(Kind::from_errno(kernel.errno), error).with_errno(kernel.errno)
}
