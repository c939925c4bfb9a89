//! Repeated requests to plug a card.

use std::collections::HashSet;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{LinkSpec, Neighbor, PciPath};

use super::cards::{Card, CardState};
use super::difference::guest_difference;
use crate::agent::GuestAgent;
use crate::card::{Backend, CardRequest};
use crate::kata_messages;
use crate::sandbox::CardRecord;

/// Card that is plugged as requested.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// The guest has the requested configuration.
    Satisfied(PciPath),
    /// The guest has lost it by a restart.
    NotConfigured(PciPath),
}

/// Compares a plugged card with the request for one of its name.
///
/// # Errors
/// [`Kind::Exists`] if they differ; the message names the difference.
pub(super) fn compare(
    card: &Card,
    record: Option<&CardRecord>,
    request: &CardRequest,
) -> Result<Repeated, Failure> {
    let phrase = kata_messages::interface_exists(&card.name);
    let exists = |rest: &str| {
        let failure = Failure::new(Kind::Exists, format!("{phrase}{rest}"));
        Err(failure.with_field("name"))
    };
    if let Some(difference) = host_difference(card, record, request) {
        return exists(&format!(", with another {difference}"));
    }
    match (&card.state, &card.interface, &card.path) {
        (Some(CardState::NotConfigured), _, Some(path)) => {
            Ok(Repeated::NotConfigured(path.clone()))
        }
        (None, Some(interface), Some(path)) => match guest_difference(interface, &request.link) {
            Some(difference) => exists(&format!(", with another {difference}")),
            None => Ok(Repeated::Satisfied(path.clone())),
        },
        (state, ..) => {
            let state = state.iter().map(ToString::to_string);
            exists(&format!(" (in the guest: {})", state.collect::<String>()))
        }
    }
}

/// Names the first part of the machine's side that differs from the request.
fn host_difference(
    card: &Card,
    record: Option<&CardRecord>,
    request: &CardRequest,
) -> Option<&'static str> {
    let socket = match &request.backend {
        Backend::Tap | Backend::Bridge(_) | Backend::Link(_) => None,
        Backend::VhostUser(socket, listener) => Some((socket.as_path(), *listener)),
    };
    let port = match &request.backend {
        Backend::Bridge(port) => Some(port),
        Backend::Tap | Backend::Link(_) | Backend::VhostUser(..) => None,
    };
    let mirror = record.and_then(|record| record.mirror.as_ref());
    let policy = match &request.backend {
        Backend::Link(link) => mirror.and_then(|mirror| mirror.policy_difference(&link.request)),
        Backend::Tap | Backend::Bridge(_) | Backend::VhostUser(..) => None,
    };
    match record {
        Some(record) if record.device != request.device => Some("device"),
        Some(record) if record.socket() != socket => Some("vhostUserSocket or mode"),
        Some(record) if record.port.as_ref().map(|port| &port.wanted) != port => Some("bridge"),
        _ if card.mac != request.link.parts().mac => Some("hwAddr"),
        _ => policy,
    }
}

/// Checks that a plugged card has the requested neighbors.
///
/// # Errors
/// [`Kind::Exists`] if it lacks one; failures of the agent.
pub(super) fn check_neighbors(agent: &dyn GuestAgent, wanted: &LinkSpec) -> Result<(), Failure> {
    let (name, wanted) = (&wanted.parts().name, wanted.neighbors());
    if wanted.is_empty() {
        return Ok(());
    }
    let listed = match agent.neighbors() {
        // It was able to add them.
        Err(failure) if failure.kind() == Kind::Unsupported => return Ok(()),
        listed => listed?,
    };
    let on_card = listed.iter().filter(|listed| listed.device == *name);
    let present: HashSet<_> = on_card.map(|listed| (listed.ip, listed.lladdr)).collect();
    let is_present = |new: &Neighbor<()>| present.contains(&(new.ip, new.lladdr));
    if wanted.iter().all(is_present) {
        return Ok(());
    }
    let phrase = kata_messages::interface_exists(name);
    let failure = Failure::new(Kind::Exists, format!("{phrase}, with another neighbor"));
    Err(failure.with_field("name"))
}
