//! Cards with their devices on the host.

use std::thread;

use patchbay_types::failure::Failure;
use patchbay_types::{AddressDetail, Interface, LinkName};

use super::attachments::recorded;
use super::cards::{self, Card, CardKey};
use super::{connect_over, query_host_and_guest};
use crate::agent::AnyAgent;
use crate::card::HostSettings;
use crate::hotplug::{self, Inventory, InventoryNic, TapBackends};
use crate::netns::{Counters, HostLink, LinkCounters};
use crate::qmp::Session;
use crate::sandbox::{self, CardRecord, Lookup, Sandbox, SandboxId};
use crate::threads;

/// Number of sandboxes that are queried at once.
const CONCURRENT: usize = 16;

/// Card with its device on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardOnHost {
    /// Sandbox of the card.
    pub sandbox: SandboxId,
    /// The card. Without a reply of the agent it has no interface, and no state.
    pub card: Card,
    /// Host device; `None` if the journal has lost the card.
    pub device: Option<LinkName>,
    /// Bridge of which the card's TAP is a port.
    pub bridge: Option<LinkName>,
    /// State of the TAP; `None` for other backends, and for one that was deleted.
    pub tap: Option<TapStatus>,
    /// Cable, bandwidth limits and VLAN.
    pub settings: HostSettings,
}

/// State of a card's TAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapStatus {
    /// Whether it is set up.
    pub up: bool,
    /// Whether QEMU has it open.
    pub carrier: bool,
    /// Traffic that the card has received, which is what the TAP has sent.
    pub received: Counters,
    /// Traffic that the card has sent.
    pub sent: Counters,
}

/// Lists the cards of a sandbox in the order of [`list`](super::list). An agent that does not reply is a
/// warning: QEMU and the host know enough.
///
/// # Errors
/// Failures of QEMU and of the host's kernel.
pub fn list_on_host(sandbox: &Sandbox) -> Result<Vec<CardOnHost>, Failure> {
    let mut qmp = Session::connect(sandbox.monitor())?;
    let agent = connect_over(&mut qmp, sandbox);
    let agent = agent.inspect_err(|failure| warn(sandbox, failure)).ok();
    list(sandbox, qmp, agent).map(|(cards, _)| cards)
}

/// The same over a session and a connection that are open. Returns the agent, unless it has stopped to
/// reply.
pub(super) fn list(
    sandbox: &Sandbox,
    mut qmp: Session,
    agent: Option<AnyAgent>,
) -> Result<(Vec<CardOnHost>, Option<AnyAgent>), Failure> {
    let mut machine = || {
        let nics = Inventory::read_nics(&mut qmp, CardRecord::DEVICE_PREFIX)?;
        Ok((nics, TapBackends::read(&mut qmp)?))
    };
    let queried =
        agent.map(|agent| query_host_and_guest(agent, AddressDetail::Listed, &mut machine));
    let ((nics, taps), guest) = match queried {
        Some(Ok((machine, agent, interfaces))) => (machine, Some((agent, interfaces))),
        Some(Err(failure)) => {
            warn(sandbox, &failure);
            (machine().map_err(Failure::from)?, None)
        }
        None => (machine().map_err(Failure::from)?, None),
    };
    let records = recorded(sandbox)?;
    let (cards, agent) = with_guest(sandbox, &nics, guest, &records);
    let on_host = cards.into_iter().map(|card| {
        let record = records.iter().find(|record| record.name == card.name);
        let nic = nics
            .iter()
            .find(|nic| nic.name() == Some(card.name.as_str()));
        let tap = nic.map(|nic| hotplug::tap_status(sandbox, &taps, (nic, record)));
        let tap = tap.transpose()?.flatten();
        Ok(CardOnHost {
            sandbox: sandbox.id.clone(),
            device: record.map(|record| record.device.clone()),
            bridge: record
                .and_then(|record| record.port.as_ref())
                .map(|port| port.wanted.bridge.clone()),
            tap: tap.map(TapStatus::from),
            settings: record.map(|record| record.host.now).unwrap_or_default(),
            card,
        })
    });
    Ok((on_host.collect::<Result<_, Failure>>()?, agent))
}

fn warn(sandbox: &Sandbox, failure: &Failure) {
    tracing::warn!(
        "the guest of {} is left out: {}",
        sandbox.id,
        failure.line()
    );
}

fn with_guest(
    sandbox: &Sandbox,
    nics: &[InventoryNic],
    guest: Option<(AnyAgent, Vec<Interface>)>,
    records: &[CardRecord],
) -> (Vec<Card>, Option<AnyAgent>) {
    let machine = cards::of_machine(nics);
    let Some((agent, interfaces)) = guest else {
        return (machine, None);
    };
    match cards::with_guest(machine, &interfaces, agent, records) {
        Ok((cards, guest)) => (cards, Some(guest.agent)),
        Err(failure) => {
            warn(sandbox, &failure);
            (cards::of_machine(nics), None)
        }
    }
}

/// Returns one card of a sandbox.
///
/// # Errors
/// Those of [`list_on_host`]; [`Kind::NotFound`](patchbay_types::failure::Kind::NotFound) without the
/// card, [`Kind::Invalid`](patchbay_types::failure::Kind::Invalid) for a key that fits several.
pub fn show_on_host(sandbox: &Sandbox, key: &CardKey) -> Result<CardOnHost, Failure> {
    let listed = list_on_host(sandbox)?;
    let all: Vec<Card> = listed.iter().map(|found| found.card.clone()).collect();
    let name = cards::find(&all, key)?.map(|card| card.name.clone());
    let mut listed = listed.into_iter();
    let found = listed.find(|found| Some(&found.card.name) == name.as_ref());
    found.ok_or_else(|| key.not_found())
}

/// Lists the cards of all sandboxes, by id. A sandbox that can't be read is a warning.
///
/// # Errors
/// Folders that can't be read.
pub fn list_all_on_host(lookup: &Lookup) -> Result<Vec<CardOnHost>, Failure> {
    let mut sandboxes = sandbox::all(lookup)?;
    sandboxes.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let mut rows = Vec::new();
    for chunk in sandboxes.chunks(CONCURRENT) {
        let lists = thread::scope(|scope| {
            let queries = chunk
                .iter()
                .map(|sandbox| threads::spawn(scope, move || (sandbox, list_on_host(sandbox))));
            let queries: Vec<_> = queries.collect::<Result<_, _>>()?;
            let lists = queries.into_iter().filter_map(|query| query.join().ok());
            Ok::<_, Failure>(lists.collect::<Vec<_>>())
        })?;
        for (sandbox, list) in lists {
            match list {
                Ok(cards) => rows.extend(cards),
                Err(failure) => {
                    tracing::warn!("{} is left out: {}", sandbox.id, failure.line());
                }
            }
        }
    }
    Ok(rows)
}

impl From<HostLink> for TapStatus {
    fn from(link: HostLink) -> Self {
        let LinkCounters { received, sent } = link.counters;
        Self {
            up: link.state.up,
            carrier: link.has_carrier,
            received: sent,
            sent: received,
        }
    }
}
