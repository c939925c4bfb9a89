//! Difference of a card from its wanted request.

use std::collections::HashSet;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{
    AdminState, Interface, InterfaceAddress, LinkChange, LinkFlags, LinkSpec, Mtu, Promisc,
};

use super::present::{GuestState, PortState, PresentCard, own_addresses};
use super::{Configure, Unplug, Update};
use crate::card::{Backend, CardRequest, PlugRequest};
use crate::mirror;

/// Treatment of a card that the document has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is as wanted, after these changes.
    Keep(Option<Configure>, Option<Box<Update>>),
    /// It is unplugged, and plugged as wanted.
    Replace(Unplug),
}

/// Compares a card with the request for it.
///
/// # Errors
/// [`Kind::NotYet`] for a card that can't be configured, [`Kind::NotFound`] for one that would have to be
/// plugged again and that the journal has lost.
pub(super) fn compare(card: &PresentCard, wanted: &PlugRequest) -> Result<Treatment, Failure> {
    if let Some(difference) = fixed_difference(card, wanted) {
        return card.unplug(Some(difference)).map(Treatment::Replace);
    }
    let (name, latest) = (&card.name, card.request.as_ref());
    let configure = |difference: &str| Configure {
        card: Box::new(latest.unwrap_or(wanted).clone()),
        state: card.admin,
        difference: difference.to_owned(),
    };
    let interface = match &card.state {
        GuestState::Hidden(state) => {
            let message = format!("the card {name} can't be configured (in the guest: {state})");
            return Err(Failure::new(Kind::NotYet, message));
        }
        GuestState::Lost(_) => {
            let again = configure("not configured since the guest's restart");
            return Ok(Treatment::Keep(
                Some(again),
                update_of_latest(card, wanted)?,
            ));
        }
        GuestState::Configured(interface) => interface,
    };
    let host_drift = match card.port {
        PortState::AsRequested => None,
        PortState::LeftBridge => Some("its TAP is not in the bridge any more"),
    };
    if let Some(difference) = host_drift.or_else(|| drift(card, interface)) {
        let again = configure(difference);
        return Ok(Treatment::Keep(
            Some(again),
            update_of_latest(card, wanted)?,
        ));
    }
    let wanted = match (wanted, &card.of_link) {
        (PlugRequest::Card(wanted), _) => &wanted.link,
        (PlugRequest::Mirror(_), Some(link)) => link,
        (PlugRequest::Mirror(_), None) => return Ok(Treatment::Keep(None, None)),
    };
    let addresses = own_addresses(interface);
    let mtu = Mtu::try_from(u64::from(interface.mtu)).ok();
    let others = interface.addresses.iter().map(|found| found.address);
    let present = State {
        addresses,
        mtu,
        admin: interface.state(),
        promisc: interface.promisc,
    };
    let update = present.update_to(wanted, &others.collect())?;
    Ok(Treatment::Keep(None, update))
}

impl PresentCard {
    /// Returns the step that unplugs the card and can be undone.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the journal has lost the card.
    pub(super) fn unplug(&self, difference: Option<&'static str>) -> Result<Unplug, Failure> {
        let Some(request) = self.to_request() else {
            let message = format!("the journal has no configuration of the card {}", self.name);
            let failure = Failure::new(Kind::NotFound, message);
            return Err(failure.with_cause("unplug it first (nic del)"));
        };
        let card = Box::new(request);
        Ok(Unplug { card, difference })
    }
}

/// Names the first difference that only another card can have.
fn fixed_difference(card: &PresentCard, wanted: &PlugRequest) -> Option<&'static str> {
    match (card.request.as_ref(), wanted) {
        (None, PlugRequest::Card(wanted)) => {
            (card.mac != wanted.link.parts().mac).then_some("hwAddr")
        }
        (Some(PlugRequest::Mirror(latest)), PlugRequest::Mirror(wanted)) => match latest {
            _ if latest.link != wanted.link => Some("link"),
            _ if latest.queues != wanted.queues => Some("queues"),
            _ => {
                let link = card.of_link.as_ref();
                let latest = card.latest.as_ref().zip(link);
                if link.is_some_and(|link| link.parts().mac != card.mac) {
                    Some("hwAddr of the link")
                } else {
                    latest
                        .is_some_and(|(latest, link)| mirror::prefix_routes_differ(latest, link))
                        .then_some("noPrefixRoute of the link")
                }
            }
        },
        (Some(PlugRequest::Card(latest)), PlugRequest::Card(wanted)) => differs(latest, wanted),
        _ => Some("link"),
    }
}

fn differs(latest: &CardRequest, wanted: &CardRequest) -> Option<&'static str> {
    let (old, new) = (latest.link.parts(), wanted.link.parts());
    let mut addresses = new.addresses.iter();
    let prefix_route = |link: &LinkSpec, address| link.prefix_route(address);
    match latest {
        _ if latest.device != wanted.device => Some("device"),
        _ if latest.backend != wanted.backend => Some(match (&latest.backend, &wanted.backend) {
            (Backend::Bridge(_), _) | (_, Backend::Bridge(_)) => "bridge",
            _ => "vhostUserSocket or mode",
        }),
        _ if old.mac != new.mac => Some("hwAddr"),
        _ if old.queues != new.queues => Some("queues"),
        _ if old.arp != new.arp => Some("rawFlags"),
        _ if addresses.any(|address| {
            prefix_route(&latest.link, *address) != prefix_route(&wanted.link, *address)
        }) =>
        {
            Some("noPrefixRoute")
        }
        _ => None,
    }
}

/// Names a change by the guest that configuring the card anew reverses.
fn drift(card: &PresentCard, interface: &Interface) -> Option<&'static str> {
    match (card.admin, interface.state()) {
        (AdminState::Up, AdminState::Down) => return Some("the guest has set it down"),
        (AdminState::Down, AdminState::Up) => return Some("the guest has set it up"),
        _ => {}
    }
    let Some(PlugRequest::Card(latest)) = &card.request else {
        return None;
    };
    let (parts, promisc) = (latest.link.parts(), latest.link.promisc());
    match parts {
        _ if promisc.is_some_and(|wanted| interface.promisc != Some(wanted)) => {
            Some("the guest has changed its promiscuous mode")
        }
        _ if interface.arp != parts.arp => Some("the guest has changed rawFlags"),
        _ if parts.queues.is_some() && interface.queues != parts.queues => {
            Some("the guest has changed the number of queues")
        }
        _ => None,
    }
}

/// Returns the change of a card that is configured as requested last.
fn update_of_latest(
    card: &PresentCard,
    wanted: &PlugRequest,
) -> Result<Option<Box<Update>>, Failure> {
    let (Some(PlugRequest::Card(latest)), PlugRequest::Card(wanted)) = (&card.request, wanted)
    else {
        return Ok(None);
    };
    let parts = latest.link.parts();
    let latest = State {
        addresses: parts.addresses.clone(),
        mtu: Some(parts.mtu),
        admin: latest.link.state(),
        promisc: latest.link.promisc(),
    };
    latest.update_to(&wanted.link, &HashSet::new())
}

/// State of an interface that a change replaces.
struct State {
    addresses: Vec<InterfaceAddress>,
    /// `None` for one that can't be requested.
    mtu: Option<Mtu>,
    admin: AdminState,
    promisc: Option<Promisc>,
}

impl State {
    /// Returns the change to the wanted state, and its inverse. Addresses that other programs have set
    /// satisfy the request, too.
    fn update_to(
        self,
        link: &LinkSpec,
        present: &HashSet<InterfaceAddress>,
    ) -> Result<Option<Box<Update>>, Failure> {
        let parts = link.parts();
        let wanted: HashSet<_> = parts.addresses.iter().collect();
        let own: HashSet<_> = self.addresses.iter().collect();
        let is_present = |address| own.contains(address) || present.contains(address);
        let same = wanted.iter().all(|address| is_present(*address)) && own.is_subset(&wanted);
        let (new_mtu, old_mtu) = match self.mtu {
            Some(mtu) if mtu == parts.mtu => (None, None),
            mtu => (Some(parts.mtu), mtu),
        };
        let (new_flags, old_flags) = self.flags_to(link);
        if same && new_mtu.is_none() && new_flags == LinkFlags::default() {
            return Ok(None);
        }
        let of = |addresses: &Vec<InterfaceAddress>| (!same).then(|| addresses.clone());
        let change =
            |addresses, mtu| LinkChange::new((&parts.name).into(), addresses, mtu, "addresses");
        let (new, old) = (of(&parts.addresses), of(&self.addresses));
        Ok(Some(Box::new(Update {
            change: change(new, new_mtu)?
                .with_flags(new_flags)
                .with_dad(link.duplicates()),
            undo: change(old, old_mtu)?.with_flags(old_flags),
        })))
    }

    /// Returns the change of the flags, and its inverse.
    fn flags_to(&self, link: &LinkSpec) -> (LinkFlags, LinkFlags) {
        let is_other = link.state() != self.admin;
        let promisc = link.promisc().filter(|new| Some(*new) != self.promisc);
        let flags = |admin, promisc| LinkFlags {
            state: is_other.then_some(admin),
            promisc,
            arp: None,
        };
        let old = promisc.and(self.promisc);
        (flags(link.state(), promisc), flags(self.admin, old))
    }
}
