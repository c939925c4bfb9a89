//! Mirrored links: a card that replaces a link of the sandbox's network namespace.
//!
//! The card has the MAC address, the MTU, the addresses, the routes and the static neighbors that the
//! link has in its namespace, and its TAP is wired to the link (see the module `wire`). Everything is read from
//! the kernel. The result of a CNI plugin is not enough: it has no MTU, and with `ptp` not the routes.

mod addresses;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
pub(crate) mod mirrored_link;
pub(crate) mod request;
mod routes;
mod rules;
mod source;
mod strays;
mod survey;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::collections::HashSet;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    Arp, IfName, InterfaceAddress, InvalidValue, LinkFields, LinkName, LinkSpec, Mtu, PrefixRoute,
    Route, RouteRequest, RouteSpec,
};
use serde::{Deserialize, Serialize};
use tracing::subscriber::{NoSubscriber, with_default};

use crate::card::{Backend, CardRequest};
use crate::netns::{Netns, Rtnetlink};
use crate::sandbox::{RouteRecord, name_as_text};
use addresses::SourceAddresses;
pub use mirrored_link::MirroredLink;
pub use request::{Attachment, DefaultRoute, Keeper, MirrorRequest, RoutePolicy};
use source::SourceLink;
pub(crate) use source::index as link_index;
pub(crate) use strays::cut_strays;
pub(crate) use survey::{Survey, SurveyedLink};
pub(crate) use wire::WireRecord;

/// Maximum number of routes of a card.
const MAX_CARD_ROUTES: usize = 4096;
/// Metric of an IPv6 default route that is to be preferred: half of the kernel's default.
const PREFERRED_METRIC: u32 = 512;

/// Mirrored link in the journal of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorRecord {
    /// Name of the link.
    #[serde(with = "name_as_text")]
    pub(crate) link: LinkName,
    #[serde(flatten)]
    pub(crate) wire: WireRecord,
    routes: RoutePolicy,
    default_route: DefaultRoute,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attachment: Option<Attachment>,
    #[serde(default, skip_serializing_if = "Keeper::is_operator")]
    pub(crate) keeper: Keeper,
    /// Routes of the link that [`Keeper::Watch`] has mirrored, or has begun to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) link_routes: Vec<RouteRecord>,
    /// Whether routes and neighbors of the guest can be others than those of the record, because a change
    /// of them has begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_changing: bool,
}

impl MirrorRecord {
    /// Describes a link that is about to be wired.
    pub(crate) fn new(mirrored: &MirroredLink, wire: WireRecord) -> Self {
        let MirrorRequest {
            link,
            routes,
            default_route,
            attachment,
            keeper,
            ..
        } = mirrored.request.clone();
        let link_routes = match keeper {
            Keeper::Operator => Vec::new(),
            Keeper::Watch => RouteRecord::list(&mirrored.of_link),
        };
        Self {
            link,
            wire,
            routes,
            default_route,
            attachment,
            keeper,
            link_routes,
            is_changing: false,
        }
    }

    /// Makes the card that of another request for the same link.
    pub(crate) fn take_over(&mut self, request: &MirrorRequest) {
        self.routes = request.routes;
        self.default_route = request.default_route;
        self.attachment.clone_from(&request.attachment);
        self.keeper = request.keeper;
        self.link_routes.clear();
        self.is_changing = false;
    }

    /// Names the first policy that differs from that of a request.
    pub(crate) fn policy_difference(&self, request: &MirrorRequest) -> Option<&'static str> {
        if self.routes != request.routes {
            Some("routes")
        } else if self.default_route != request.default_route {
            Some("defaultRoute")
        } else {
            None
        }
    }

    /// Returns the request for a card with the same configuration.
    pub(crate) fn request(&self, spec: &LinkSpec) -> MirrorRequest {
        MirrorRequest {
            link: self.link.clone(),
            name: spec.parts().name.clone(),
            queues: spec.parts().queues,
            routes: self.routes,
            default_route: self.default_route,
            attachment: self.attachment.clone(),
            keeper: self.keeper,
        }
    }
}

/// Reads a link, and returns the request for its card, without routes that conflict with `present`, the
/// routes of the guest.
///
/// # Errors
/// [`Kind::NotFound`] without the link, [`Kind::Unsupported`] for one that can't be mirrored,
/// [`Kind::Invalid`] if a card can't have its settings.
pub(crate) fn read(
    namespace: &Netns,
    request: &MirrorRequest,
    present: &[Route],
) -> Result<CardRequest, Failure> {
    let failure = |error| source::failure(&request.link, &error);
    let rtnl = Rtnetlink::open(namespace).map_err(failure)?;
    let link = SourceLink::read(&rtnl, &request.link)?;
    let SourceAddresses {
        mirrored: addresses,
        left_out,
    } = addresses::addresses(&rtnl, link.index).map_err(failure)?;
    let routes = routes::routes(&rtnl, link.index).map_err(failure)?;
    let neighbors = match request.routes {
        RoutePolicy::Mirror => {
            rules::warn(&rtnl, &request.link, &addresses).map_err(failure)?;
            addresses::neighbors(&rtnl, link.index).map_err(failure)?
        }
        RoutePolicy::Skip => Vec::new(),
    };
    let fields = LinkFields {
        name: request.name.clone(),
        mac: link.mac,
        mtu: Mtu::try_from(u64::from(link.mtu)).map_err(|invalid| invalid.in_field("mtu"))?,
        addresses: addresses.iter().map(|found| found.address).collect(),
        queues: request.queues,
        arp: Arp::On,
    };
    let absent: Vec<_> = addresses
        .iter()
        .filter(|found| found.prefix_route(&routes.connected) == PrefixRoute::Absent)
        .map(|found| found.address)
        .collect();
    let spec = LinkSpec::new(fields, "addresses of the link")?
        .without_prefix_routes(|address| absent.contains(&address))
        .with_neighbors(neighbors, "neighbors of the link")?;
    // The guest's kernel makes the others.
    let is_to_peer = |network| addresses.iter().any(|found| found.has_peer_in(network));
    let networks = addresses
        .iter()
        .filter(|found| !absent.contains(&found.address));
    let networks: Vec<_> = networks.map(|found| found.network).collect();
    let routes = match request.routes {
        RoutePolicy::Mirror => {
            routes::possible(routes.without_connected(is_to_peer), &networks, &left_out)
        }
        RoutePolicy::Skip => Vec::new(),
    };
    let requests = routes
        .into_iter()
        .map(|route| RouteSpec::new(routes::request(route, &request.name)));
    let of_link: Result<Vec<_>, _> = requests.collect();
    let of_link = of_link.map_err(|error| error.nested_in("routes"))?;
    Ok(CardRequest {
        device: tap_name(link.index)?,
        backend: Backend::Link(Box::new(MirroredLink {
            request: request.clone(),
            netns: namespace.id(),
            index: link.index,
            routes: compatible(&of_link, present, request.default_route)?,
            of_link,
        })),
        link: spec,
    })
}

/// Returns whether an address of the link has another prefix route than that of the card, which a change of
/// an interface can't carry.
pub(crate) fn prefix_routes_differ(card: &LinkSpec, link: &LinkSpec) -> bool {
    let addresses = &link.parts().addresses;
    let without = card.addresses_without_prefix_route().iter();
    let kept: Vec<InterfaceAddress> = without
        .filter(|address| addresses.contains(address))
        .copied()
        .collect();
    let of_link: HashSet<_> = link.addresses_without_prefix_route().iter().collect();
    kept.iter().collect::<HashSet<_>>() != of_link
}

/// The same without the warnings about the link, which are those of the plug, and for a guest without routes.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn read_silently(
    namespace: &Netns,
    request: &MirrorRequest,
) -> Result<CardRequest, Failure> {
    with_default(NoSubscriber::new(), || read(namespace, request, &[]))
}

/// Returns the name of a link's TAP.
fn tap_name(link: u32) -> Result<LinkName, Failure> {
    let name = format!("pbt{link}").parse();
    Ok(name.map_err(|invalid: InvalidValue| invalid.in_field("device"))?)
}

/// Leaves out the routes that the guest has by another card.
pub(crate) fn compatible(
    routes: &[RouteSpec],
    present: &[Route],
    policy: DefaultRoute,
) -> Result<Vec<RouteSpec>, Failure> {
    let mut specs = Vec::new();
    for spec in routes {
        if present.iter().any(|route| spec.matches(route)) {
            continue;
        }
        let wanted = spec.resolve();
        let mut others = present.iter().filter(|other| other.device != wanted.device);
        let is_default = wanted.dest.prefix_len() == 0;
        let other = others.find(|other| {
            other.dest == wanted.dest && (is_default || other.metric == wanted.metric)
        });
        match (other, policy) {
            (None, _) => specs.push(spec.clone()),
            (Some(_), DefaultRoute::Take) if is_default => specs.extend(preferred(spec.fields())?),
            (Some(other), _) => tracing::warn!(
                "the guest has the route {other}: that of the link to {} is not added",
                wanted.dest
            ),
        }
    }
    if specs.len() > MAX_CARD_ROUTES {
        let message = format!(
            "the link has {} routes: a card has at most {MAX_CARD_ROUTES}",
            specs.len()
        );
        return Err(Failure::new(Kind::Invalid, message).with_field("routes"));
    }
    Ok(specs)
}

/// Returns the routes that are preferred to another default route, and end with the card. IPv4 has no
/// metric below that of most default routes, 0, so two routes cover the halves of the address space.
fn preferred(default: &RouteRequest) -> Result<Vec<RouteSpec>, Failure> {
    let requests = if default.dest.addr().is_ipv4() {
        let halves = ["0.0.0.0/1", "128.0.0.0/1"].map(str::parse);
        let halves = halves.into_iter().flatten();
        halves
            .map(|dest| RouteRequest {
                dest,
                ..default.clone()
            })
            .collect()
    } else {
        let metric = Some(PREFERRED_METRIC);
        vec![RouteRequest {
            metric,
            ..default.clone()
        }]
    };
    let specs = requests.into_iter().map(RouteSpec::new);
    let specs: Result<Vec<_>, _> = specs.collect();
    specs.map_err(|error| error.nested_in("routes").into())
}

/// Name that a card gets in the guest if none is requested: that of the link.
///
/// # Errors
/// [`Kind::Invalid`] for a name that a card can't have.
pub fn default_name(link: &LinkName) -> Result<IfName, Failure> {
    let name = link.to_string().parse();
    Ok(name.map_err(|invalid: InvalidValue| invalid.in_field("name"))?)
}
