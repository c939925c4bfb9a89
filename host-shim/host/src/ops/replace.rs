//! Replacement of a card by one with another MAC address or another number of queues, which QEMU can't change.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, MacAddr, QueuePairs};

use super::cards::{self, CardKey};
use super::replaced::{
    Restored, capture, in_netns_of, lost, plug_again, record_replaced, release, settle,
};
use super::tap_check::check_tap;
use super::{begin, connect_over, plug_any, query_host_and_guest};
use crate::agent::AnyAgent;
use crate::card::PlugRequest;
use crate::hotplug::{self, Inventory, LockedSandbox};
use crate::sandbox::{CardRecord, ReplacedCard, Sandbox};

/// Change of a card that needs another one; `None` keeps a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replacement {
    /// MAC address.
    pub mac: Option<MacAddr>,
    /// Queue pairs.
    pub queues: Option<QueuePairs>,
}

impl Replacement {
    /// Returns the request for the new card.
    fn of(self, request: &PlugRequest) -> Result<PlugRequest, Failure> {
        match (request.clone(), self.mac) {
            (PlugRequest::Card(mut card), mac) => {
                let mac = mac.unwrap_or(card.link.parts().mac);
                let queues = self.queues.or(card.link.parts().queues);
                card.link = card.link.with_device(mac, queues);
                Ok(PlugRequest::Card(card))
            }
            (PlugRequest::Mirror(mut mirror), None) => {
                mirror.queues = self.queues.or(mirror.queues);
                Ok(PlugRequest::Mirror(mirror))
            }
            (PlugRequest::Mirror(mirror), Some(_)) => {
                let message = format!(
                    "the card {} has the MAC address of the link '{}': change that of the link",
                    mirror.name, mirror.link
                );
                Err(Failure::new(Kind::Invalid, message).with_field("mac"))
            }
        }
    }
}

/// Unplugs a card and plugs it again with a change. The new card has the configuration of the old one, with the
/// settings of [`set_on_host`](super::set_on_host), and with the routes and static neighbors that the guest had
/// through it; a failure puts the old one back. Without a difference nothing is changed.
///
/// # Errors
/// Those of [`plug`](super::plug) and [`unplug`](super::unplug); [`Kind::NotFound`] without the card or its
/// configuration, [`Kind::NotYet`] for one that the guest doesn't have as requested, [`Kind::Invalid`] for a card
/// that patchbay-cni manages or the MAC address of one with a link.
pub fn replace(
    sandbox: &Sandbox,
    key: &CardKey,
    change: Replacement,
    wait: Duration,
) -> Result<(), Failure> {
    let mut locked = begin(sandbox)?;
    let (record, agent) = find(&mut locked, key, change)?;
    let old = record.request().ok_or_else(|| lost(&record.name))?;
    let new = change.of(&old)?;
    let replaced = capture(&*agent, record)?;
    drop(agent);
    let replaced = replaced.with_successor(change.mac, change.queues);
    if replaced.is_successor(&replaced.card) {
        return Ok(());
    }
    let in_netns = in_netns_of(sandbox, &replaced.card)?;
    sandbox.interrupt.begin_change()?;
    record_replaced(&locked, &replaced)?;
    let done = hotplug::remove(locked, replaced.card.clone()).and_then(|()| {
        plug_any(&in_netns, &new, wait)?;
        settle(sandbox, &replaced)
    });
    done.map_err(|failure| undo(sandbox, &replaced, wait, failure))
}

/// Finds the card, and checks that it can be replaced. Returns the agent, too.
fn find(
    locked: &mut LockedSandbox<'_>,
    key: &CardKey,
    change: Replacement,
) -> Result<(CardRecord, AnyAgent), Failure> {
    let sandbox = locked.sandbox;
    let agent = connect_over(locked.qmp()?, sandbox)?;
    let all = AddressDetail::Listed;
    let (inventory, agent, interfaces) =
        query_host_and_guest(agent, all, || Inventory::read(locked.qmp()?))?;
    let nics = inventory.nics();
    let records = locked.records(&nics)?;
    let (cards, guest) = cards::with_guest(cards::of_machine(&nics), &interfaces, agent, &records)?;
    let card = cards::find(&cards, key)?.ok_or_else(|| key.not_found())?;
    check_tap(locked.qmp()?, &nics, card)?;
    if let Some(state) = &card.state {
        let message = format!(
            "the card {} can't be replaced (in the guest: {state})",
            card.name
        );
        return Err(Failure::new(Kind::NotYet, message));
    }
    if let Some(mac) = change.mac.filter(|mac| *mac != card.mac) {
        inventory.check_mac_unused(mac)?;
    }
    let mut records = records.into_iter();
    let record = records.find(|record| record.name == card.name);
    let record = record.ok_or_else(|| lost(&card.name))?;
    let mirror = record.mirror.as_ref();
    if mirror.is_some_and(|mirror| mirror.attachment.is_some()) {
        let message = format!(
            "the card {} belongs to patchbay-cni, which replaces it",
            card.name
        );
        return Err(Failure::new(Kind::Invalid, message).with_field("name"));
    }
    hotplug::check_settings(locked, &nics, &record)?;
    if let Some(PlugRequest::Card(request)) = record.request() {
        guest.agent.check_link(&request.link)?;
    }
    Ok((record, guest.agent))
}

/// Plugs the old card again. Returns the failure with the cause why that was not possible.
fn undo(sandbox: &Sandbox, replaced: &ReplacedCard, wait: Duration, failure: Failure) -> Failure {
    let _completion = sandbox.interrupt.complete();
    let undo = match plug_again(sandbox, replaced, wait) {
        Ok(Restored::AsBefore) => {
            return failure.with_cause("the card is plugged again as before");
        }
        Ok(Restored::GivenUp) => return failure.with_cause("the card is not plugged any more"),
        Err(undo) => undo,
    };
    let failure = failure.with_cause(format!(
        "the card could not be plugged again ('patchbay gc' tries once more): {}",
        undo.line()
    ));
    match release(sandbox, replaced) {
        Ok(()) => failure,
        Err(unwritten) => failure.with_cause(unwritten.line()),
    }
}
