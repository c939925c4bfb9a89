//! Cards that mirror a link of the sandbox's network namespace.

use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{AddressDetail, LinkSpec, MacAddr, PciPath};

use super::{begin, connect_over, plug_queried, query_host_and_guest};
use crate::card::CardRequest;
use crate::guest::Guest;
use crate::hotplug::Inventory;
use crate::mirror::{self, MirrorRecord, MirrorRequest, RoutePolicy};
use crate::netns::{Netns, Rtnetlink};
use crate::sandbox::{CardRecord, Sandbox};

/// Outcome of [`mirror()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirrored {
    /// The card is plugged at this path, as in the request.
    Card(PciPath, Box<CardRequest>),
    /// The machine has a card of another program with the link's MAC address: it serves the link already.
    Adopted(MacAddr),
}

/// Plugs a card that replaces a link of the sandbox's network namespace; `wait` limits the guest's part.
/// Repeating a request that succeeded changes nothing.
///
/// # Errors
/// Those of [`plug`](super::plug) and, for the link, [`Kind::NotFound`] without it,
/// [`Kind::Unsupported`] for one that is not a virtual Ethernet link, [`Kind::Exists`] if its frames
/// are redirected already.
pub fn mirror(
    sandbox: &Sandbox,
    request: &MirrorRequest,
    wait: Duration,
) -> Result<Mirrored, Failure> {
    let mut locked = begin(sandbox)?;
    let agent = connect_over(locked.qmp()?, sandbox)?;
    let present = match request.routes {
        RoutePolicy::Mirror => agent.routes()?,
        RoutePolicy::Skip => Vec::new(),
    };
    let namespace = Netns::open_or_current(sandbox.netns.as_deref())?;
    let card = mirror::read(&namespace, request, &present)?;
    let mac = card.link.parts().mac;
    let all = AddressDetail::Listed;
    let queried = query_host_and_guest(agent, all, || Inventory::read(locked.qmp()?))?;
    // Kata's cards have no id.
    let mut nics = queried.0.nics().into_iter();
    if nics.any(|nic| nic.mac == mac && nic.name().is_none()) {
        return Ok(Mirrored::Adopted(mac));
    }
    if let Some(record) = locked.journal.card(&request.name)? {
        check_wire(&namespace, &record)?;
    }
    let path = plug_queried(locked, queried, &card, wait)?;
    Ok(Mirrored::Card(path, Box::new(card)))
}

/// Adds the routes that a mirrored link has now and the guest lacks.
pub(super) fn add_routes(
    sandbox: &Sandbox,
    guest: &Guest,
    mirror: &MirrorRecord,
    spec: &LinkSpec,
) -> Result<(), Failure> {
    let namespace = Netns::open_or_current(sandbox.netns.as_deref())?;
    let card = mirror::read(&namespace, &mirror.request(spec), &guest.agent.routes()?)?;
    guest.add_routes(&card)
}

/// Checks the wire of a plugged card.
///
/// # Errors
/// [`Kind::Exists`] if it is cut.
fn check_wire(namespace: &Netns, record: &CardRecord) -> Result<(), Failure> {
    let Some(mirror) = &record.mirror else {
        return Ok(());
    };
    if is_wired(namespace, record, mirror)? {
        return Ok(());
    }
    let message = format!(
        "the card {} is plugged, but its link's frames are not redirected to it any more: unplug it \
         first (nic del)",
        record.name
    );
    Err(Failure::new(Kind::Exists, message).with_field("link"))
}

/// Returns whether the link and the TAP of a card pass their frames to each other.
pub(crate) fn is_wired(
    namespace: &Netns,
    record: &CardRecord,
    mirror: &MirrorRecord,
) -> Result<bool, Failure> {
    let failure = |error| Failure::of_io("could not read the redirection of the link", &error);
    let rtnl = Rtnetlink::open(namespace).map_err(failure)?;
    let Some(tap) = mirror::link_index(&rtnl, &record.device).map_err(failure)? else {
        return Ok(false);
    };
    mirror.wire.is_connected(&rtnl, tap).map_err(failure)
}
