//! Comparison of cards with their links.

use patchbay_types::failure::Failure;
use patchbay_types::{LinkSpec, Neighbor};
use std::collections::HashSet;
use std::hash::Hash;

use super::Action;
use crate::card::{Backend, CardRequest};
use crate::mirror::{self, Keeper, MirrorRecord, Survey};
use crate::netns::Netns;
use crate::ops;
use crate::sandbox::{CardRecord, RouteRecord};

/// Links of a namespace at one moment, to compare cards with.
#[derive(Debug)]
pub(super) struct Examiner<'a> {
    pub(super) survey: Survey,
    netns: &'a Netns,
}

impl<'a> Examiner<'a> {
    pub(super) fn new(netns: &'a Netns) -> Result<Self, Failure> {
        let message = "could not list the links of the sandbox's network namespace";
        let survey = Survey::read(netns).map_err(|error| Failure::of_io(message, &error))?;
        Ok(Self { survey, netns })
    }

    /// Returns the change that a card needs.
    pub(super) fn examine(&self, record: &CardRecord) -> Result<Option<Action>, Failure> {
        let (Some(mirror), Some(link)) = (&record.mirror, &record.link) else {
            return Ok(None);
        };
        if record.netns_id != Some(self.netns.id()) {
            return Ok(Some(Action::Unplug));
        }
        let index = mirror.wire.index;
        match self.survey.is_up(index, &mirror.link) {
            None => return Ok(Some(Action::Unplug)),
            // It has lost routes and IPv6 addresses, which it gets again once it is up.
            Some(false) => return Ok(None),
            Some(true) => {}
        }
        let has_mac = self.survey.mac(index) == Some(link.spec.parts().mac);
        if !has_mac || !ops::is_wired(self.netns, record, mirror)? {
            return Ok(Some(Action::Replug));
        }
        let wanted = read_link(self.netns, mirror, &link.spec)?;
        if mirror::prefix_routes_differ(&link.spec, &wanted.link) {
            return Ok(Some(Action::Replug));
        }
        let is_same = !mirror.is_changing
            && has_configuration(&link.spec, &wanted.link)
            && is_same_set(&mirror.link_routes, &RouteRecord::list(routes(&wanted)));
        Ok((!is_same).then_some(Action::Update))
    }
}

/// Reads the link of a card.
pub(super) fn read_link(
    netns: &Netns,
    mirror: &MirrorRecord,
    spec: &LinkSpec,
) -> Result<CardRequest, Failure> {
    mirror::read_silently(netns, &mirror.request(spec))
}

/// Returns the routes of a mirrored link.
pub(super) fn routes(card: &CardRequest) -> &[patchbay_types::RouteSpec] {
    match &card.backend {
        Backend::Link(link) => &link.of_link,
        Backend::Tap | Backend::Bridge(_) | Backend::VhostUser(..) => &[],
    }
}

/// Returns whether a card has the MTU, the addresses and the static neighbors of its link.
fn has_configuration(card: &LinkSpec, link: &LinkSpec) -> bool {
    has_addresses(card, link) && is_same_set::<Neighbor<()>>(card.neighbors(), link.neighbors())
}

/// Returns whether a card has the MTU and the addresses of its link.
pub(super) fn has_addresses(card: &LinkSpec, link: &LinkSpec) -> bool {
    let (card, link) = (card.parts(), link.parts());
    card.mtu == link.mtu && is_same_set(&card.addresses, &link.addresses)
}

fn is_same_set<T: Eq + Hash>(one: &[T], other: &[T]) -> bool {
    one.iter().collect::<HashSet<_>>() == other.iter().collect::<HashSet<_>>()
}

/// Returns whether a card was plugged by [`reconcile`](super::reconcile).
pub(super) fn is_watched(record: &CardRecord) -> bool {
    let mirror = record.mirror.as_ref();
    mirror.is_some_and(|mirror| mirror.keeper == Keeper::Watch)
}
