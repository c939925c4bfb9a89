//! Why a request was not carried out.

use std::fmt;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, InterfaceAddress, MacAddr, PciPath, QueuePairs, Route, RoutePattern};

use patchbay_netlink::KernelError;

/// One step of a configuration, for the sentence that says where it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The name.
    Rename(IfName),
    /// The MTU in bytes.
    Mtu(u32),
    /// The number of queue pairs.
    Queues(QueuePairs),
    /// Answering ARP or not.
    Arp,
    /// A new address.
    AddAddress(InterfaceAddress),
    /// An address that is not wanted.
    RemoveAddress(InterfaceAddress),
    /// Up.
    Up,
    /// Down.
    Down,
    /// A new route.
    AddRoute(Box<Route>),
    /// A route that is not wanted.
    RemoveRoute(Box<Route>),
    /// A route that was lost with an address, or while the link was down for its new name.
    PutBackRoute,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Rename(name) => write!(f, "rename the card to {name}"),
            Step::Mtu(mtu) => write!(f, "set the card's mtu to {mtu}"),
            Step::Queues(pairs) => write!(f, "set the card's queues to {pairs}"),
            Step::Arp => write!(f, "set whether the card answers ARP"),
            Step::AddAddress(address) => write!(f, "add the address {address}"),
            Step::RemoveAddress(address) => write!(f, "remove the address {address}"),
            Step::Up => write!(f, "set the card up"),
            Step::Down => write!(f, "set the card down"),
            Step::AddRoute(route) => write!(f, "add the route {route}"),
            Step::RemoveRoute(route) => write!(f, "delete the route {route}"),
            Step::PutBackRoute => write!(f, "put back a route that was lost meanwhile"),
        }
    }
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The card never appeared.
    #[error("no card with MAC {mac} appeared at PCI path {path} in time")]
    NoCard {
        /// Where it was expected.
        path: PciPath,
        /// The address that it should have.
        mac: MacAddr,
    },
    /// The host has asked again for this place, and means that.
    #[error("a later request configures the card at PCI path {path}")]
    Superseded {
        /// Where it sits.
        path: PciPath,
    },
    /// There is a card, but not the one that was meant.
    #[error("the card at PCI path {path} has MAC {found}, not {wanted}")]
    OtherMac {
        /// Where it sits.
        path: PciPath,
        /// What was asked for.
        wanted: MacAddr,
        /// What is there.
        found: MacAddr,
    },
    /// The name belongs to a link that is not the card.
    #[error("the name {name} is taken by another interface of the guest")]
    NameTaken {
        /// The name.
        name: IfName,
    },
    /// The card went away while it was configured.
    #[error("the card for {name} went away while it was configured")]
    Gone {
        /// The name that it should get.
        name: IfName,
    },
    /// No interface has the name.
    #[error("can not find the network interface {name} in the guest")]
    NoInterface {
        /// The name.
        name: IfName,
    },
    /// With this MTU the kernel takes IPv6 off the interface.
    #[error("{address} needs an mtu of at least 1280 bytes, not {mtu}")]
    SmallMtu {
        /// The address that would go.
        address: InterfaceAddress,
        /// Bytes.
        mtu: u32,
    },
    /// Another host on the link answered for an address.
    #[error("the address {address} belongs to another host on the link")]
    Duplicate {
        /// The address.
        address: InterfaceAddress,
    },
    /// The kernel could not yet find out whether another host has an address.
    #[error("whether another host has the address {address} was not settled in time")]
    Tentative {
        /// The address.
        address: InterfaceAddress,
    },
    /// A route names an interface that isn't there.
    #[error("Could not find link from device {device}")]
    NoDevice {
        /// The name.
        device: IfName,
    },
    /// There is a route to the same destination with the same metric, and it is another one.
    #[error("could not add the route {asked}: there is {found}")]
    RouteExists {
        /// The one that was asked for.
        asked: Box<Route>,
        /// The one that is there, or was asked for as well.
        found: Box<Route>,
    },
    /// No route agrees.
    #[error("no route of the guest agrees with {pattern}")]
    NoRoute {
        /// What was asked for.
        pattern: Box<RoutePattern>,
    },
    /// The main table is too large for one answer.
    #[error("the guest has {count} routes, and at most {most} can be listed")]
    TooManyRoutes {
        /// Routes.
        count: usize,
        /// Routes.
        most: usize,
    },
    /// Something of a list.
    #[error("{inner}")]
    At {
        /// Its place in the list, from 0.
        place: usize,
        /// Why that one was refused.
        inner: Box<Error>,
    },
    /// The kernel refused a step.
    #[error("could not {step}")]
    Refused {
        /// Which.
        step: Step,
        /// Why.
        refusal: KernelError,
    },
    /// The device offers fewer queues than were asked for.
    #[error("could not set the card's queues to {wanted}: it offers {offered}")]
    Queues {
        /// Pairs.
        wanted: QueuePairs,
        /// Pairs.
        offered: QueuePairs,
    },
    /// The transport to the kernel failed.
    #[error("the kernel could not be asked")]
    Netlink(#[from] patchbay_netlink::Error),
    /// A request failed, and so did undoing it.
    #[error("{first}")]
    NotUndone {
        /// Why the request failed.
        first: Box<Error>,
        /// Why undoing did.
        undo: Box<Error>,
    },
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoCard { .. }
            | Error::Superseded { .. }
            | Error::OtherMac { .. }
            | Error::Gone { .. } => Failure::of(Kind::NotYet, error),
            Error::Tentative { .. } => Failure::of(Kind::NotYet, error).with_field("addresses"),
            Error::Duplicate { .. } => Failure::of(Kind::Exists, error).with_field("addresses"),
            Error::NoInterface { .. } => Failure::of(Kind::NotFound, error).with_field("name"),
            Error::SmallMtu { .. } => Failure::of(Kind::Invalid, error).with_field("mtu"),
            Error::NoDevice { .. } => Failure::of(Kind::NotFound, error).with_field("device"),
            Error::RouteExists { .. } => Failure::of(Kind::Exists, error).with_field("dest"),
            Error::NoRoute { .. } => Failure::of(Kind::NotFound, error).with_field("dest"),
            Error::TooManyRoutes { .. } => Failure::of(Kind::Unsupported, error),
            Error::At { place, inner } => {
                let failure = Failure::from(&**inner);
                let field = failure.field().map(|field| format!(".{field}"));
                failure.with_field(format!("[{place}]{}", field.unwrap_or_default()))
            }
            Error::NameTaken { .. } => Failure::of(Kind::Exists, error).with_field("name"),
            Error::Queues { .. } => Failure::of(Kind::Invalid, error).with_field("queues"),
            Error::Refused { refusal, .. } => {
                refused(Failure::of(kind(refusal), error), refusal).with_cause(refusal.to_string())
            }
            Error::Netlink(patchbay_netlink::Error::Refused(refusal)) => {
                refused(Failure::of(kind(refusal), error), refusal)
            }
            Error::Netlink(_) => Failure::of(Kind::Other, error),
            Error::NotUndone { first, undo } => {
                let undo = Failure::from(&**undo);
                let sentence = format!("and it could not be undone: {undo}");
                undo.chain().fold(
                    Failure::from(&**first).with_cause(sentence),
                    Failure::with_cause,
                )
            }
        }
    }
}

fn kind(refusal: &KernelError) -> Kind {
    Kind::from_errno(refusal.errno)
}

fn refused(failure: Failure, refusal: &KernelError) -> Failure {
    failure.with_errno(refusal.errno)
}
