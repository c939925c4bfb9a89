//! Snapshot of a sandbox's network, and the document of it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroU32;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Change, Reading, RuleLine, Setting, Table};
use patchbay_types::{
    AddressDetail, AdminState, IfName, Interface, LinkFields, LinkName, LinkSpec, MacAddr, Mtu,
    Neighbor, Owner, Route, RouteSpec,
};

use super::{Section, Wanted};
use crate::agent::Agent;
use crate::card::{CardRequest, PlugRequest};
use crate::hotplug::{self, Inventory, TapBackends};
use crate::netns::Netns;
use crate::ops::{self, Card, CardState};
use crate::qmp::Session;
use crate::sandbox::{CardRecord, Sandbox};
use crate::{managed_route, mirror};

/// Network of a sandbox as it is. A section that was not read, or that the agent can't list, is `None`.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// Cards, without those of CNI attachments, which the plugin manages.
    pub(super) cards: Option<Vec<PresentCard>>,
    /// Number of cards that can be plugged.
    pub(super) free_slots: usize,
    pub(super) routes: Option<Vec<Route>>,
    pub(super) neighbors: Option<Vec<Neighbor>>,
    pub(super) ipvs: Option<Table>,
    pub(super) sysctls: Option<Vec<Reading>>,
    /// Names of the guest's interfaces.
    pub(super) names: HashSet<LinkName>,
    /// Present names of cards that the guest has renamed, by the plugged ones.
    pub(super) renamed: HashMap<LinkName, LinkName>,
}

/// Card of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PresentCard {
    /// Name under which it was plugged.
    pub(super) name: IfName,
    pub(super) mac: MacAddr,
    /// The latest request for it; `None` if the journal has lost the card.
    pub(super) request: Option<PlugRequest>,
    pub(super) state: GuestState,
    /// Administrative state that was requested last.
    pub(super) admin: AdminState,
    pub(super) port: PortState,
    /// Configuration by the link that it mirrors; `None` if that is gone.
    pub(super) of_link: Option<LinkSpec>,
    /// Configuration that was requested last for a card with a link.
    pub(super) latest: Option<LinkSpec>,
}

/// Host's side of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortState {
    /// Its TAP is where it was requested.
    AsRequested,
    /// Another program has taken its TAP out of the bridge, or removed that.
    LeftBridge,
}

/// Guest's side of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuestState {
    /// Its interface.
    Configured(Interface),
    /// The guest has restarted since it was configured.
    Lost(Option<Interface>),
    /// State of a card that can't be configured.
    Hidden(String),
}

impl Present {
    /// Takes a snapshot of these sections.
    ///
    /// # Errors
    /// Failures of QEMU and the agent; [`Kind::Unsupported`] for Kata's, which reports routes in part.
    pub fn read(sandbox: &Sandbox, sections: &BTreeSet<Section>) -> Result<Self, Failure> {
        let mut present = Self::default();
        let has = |section| sections.contains(&section);
        let agent = if has(Section::Interfaces) {
            present.read_cards(sandbox)?
        } else {
            let agent = ops::connect(sandbox)?.into_patchbay()?;
            if has(Section::Routes) || has(Section::Neighbors) {
                let records = ops::recorded(sandbox)?;
                let interfaces = agent.interfaces(AddressDetail::Listed)?;
                present.add_names(&interfaces, &interfaces, &records);
            }
            agent
        };
        // A card takes its routes and neighbors along.
        if has(Section::Routes) || has(Section::Interfaces) {
            present.routes = Some(agent.routes()?);
        }
        if has(Section::Neighbors) || has(Section::Interfaces) {
            present.neighbors = if_supported(agent.neighbors())?;
        }
        if has(Section::Ipvs) || has(Section::Sysctls) {
            let readings = match agent.loaded_settings()? {
                Some(loaded) => loaded.readings,
                None => agent.sysctls()?,
            };
            if has(Section::Ipvs) {
                // Without its settings, IPVS isn't loaded, and a list would load it.
                let is_loaded = readings.iter().any(|reading| reading.sysctl.is_ipvs());
                present.ipvs = Some(if is_loaded {
                    agent.ipvs_rules()?
                } else {
                    Table::default()
                });
            }
            present.sysctls = Some(readings);
        }
        Ok(present)
    }

    fn read_cards(&mut self, sandbox: &Sandbox) -> Result<Agent, Failure> {
        let mut qmp = Session::connect(sandbox.monitor())?;
        let agent = ops::connect_over(&mut qmp, sandbox)?;
        let records = ops::recorded(sandbox)?;
        let has_port = records.iter().any(|record| record.port.is_some());
        let ((inventory, taps), agent, interfaces) =
            ops::query_host_and_guest(agent, AddressDetail::Listed, move || {
                let inventory = Inventory::read(&mut qmp)?;
                let taps = has_port.then(|| TapBackends::read(&mut qmp)).transpose()?;
                Ok((inventory, taps))
            })?;
        let slots = hotplug::free_by_bus(&inventory);
        self.free_slots = slots.iter().map(|(_, free)| free).sum();
        let nics = inventory.nics();
        let machine = ops::cards::of_machine(&nics);
        let (cards, guest) = ops::cards::with_guest(machine, &interfaces, agent, &records)?;
        // The names of cards that are not configured are those of the guest's kernel.
        let is_lost = |interface: &Interface| {
            let mut lost = cards.iter();
            lost.any(|card| {
                card.state == Some(CardState::NotConfigured)
                    && card.interface.as_ref() == Some(interface)
            })
        };
        let mut configured = interfaces.clone();
        configured.retain(|interface| !is_lost(interface));
        self.add_names(&interfaces, &configured, &records);
        let cards = cards.into_iter().filter_map(|card| {
            let record = records.iter().find(|record| record.name == card.name);
            PresentCard::new(card, record)
        });
        let mut cards: Vec<PresentCard> = cards.collect();
        for card in &mut cards {
            let record = records.iter().find(|record| record.name == card.name);
            let nic = nics
                .iter()
                .find(|nic| nic.name() == Some(card.name.as_str()));
            if let Some((taps, of_card)) = taps.as_ref().zip(nic.zip(record))
                && hotplug::has_left_bridge(sandbox, taps, of_card)?
            {
                card.port = PortState::LeftBridge;
            }
            card.of_link = card.of_link(sandbox);
            // Until it is configured again, its name is one of the guest's kernel.
            if let GuestState::Lost(_) = card.state {
                let plugged = LinkName::from(&card.name);
                let link = record.and_then(|record| record.link.as_ref());
                let own = link.map(|link| LinkName::from(&link.spec.parts().name));
                match own.filter(|own| *own != plugged) {
                    Some(own) => self.renamed.insert(plugged, own),
                    None => self.renamed.remove(&plugged),
                };
            }
        }
        self.cards = Some(cards);
        guest.agent.into_patchbay()
    }

    /// Adds the names of all interfaces, and those of renamed cards among the configured ones.
    fn add_names(
        &mut self,
        interfaces: &[Interface],
        configured: &[Interface],
        records: &[CardRecord],
    ) {
        let names = interfaces.iter().map(|interface| interface.name.clone());
        self.names = names.collect();
        self.renamed = ops::renamed(configured, records).into_iter().collect();
    }

    /// Replaces the present name of a card by the one under which it was plugged, which documents have.
    fn name_as_plugged(&self, device: &mut LinkName) {
        let mut renamed = self.renamed.iter();
        if let Some((plugged, _)) = renamed.find(|(_, now)| *now == device) {
            device.clone_from(plugged);
        }
    }

    /// Returns the document of the network, in an order that does not depend on the guest. A card whose configuration the guest has lost has that of its
    /// latest request.
    #[must_use]
    pub fn to_wanted(&self) -> Wanted {
        let cards = self.cards.as_ref().map(|cards| {
            for card in cards {
                card.warn();
            }
            let mut requests: Vec<_> = cards.iter().filter_map(PresentCard::to_request).collect();
            requests.sort_by_key(|request| request.name().clone());
            requests
        });
        let managed = |routes: &Vec<Route>| {
            let managed = routes
                .iter()
                .filter(|route| managed_route::is_managed(route));
            let mut managed: Vec<&Route> = managed.collect();
            managed.sort_by_key(|route| (route.table.get(), route.dest, route.metric));
            let requests = managed.into_iter().filter_map(managed_route::request);
            let as_plugged = |mut request: RouteSpec| {
                self.name_as_plugged(request.device_mut());
                request
            };
            requests.map(as_plugged).collect()
        };
        let neighbors = self.neighbors.clone().map(|mut neighbors| {
            for neighbor in &mut neighbors {
                self.name_as_plugged(&mut neighbor.device);
            }
            neighbors.sort_by_key(|neighbor| (neighbor.device.clone(), neighbor.ip.get()));
            neighbors
        });
        let settings = |readings: &Vec<Reading>| {
            let settings = readings.iter().map(|reading| Setting::new(*reading));
            settings.filter_map(Result::ok).collect()
        };
        Wanted {
            interfaces: cards,
            routes: self.routes.as_ref().map(managed),
            neighbors,
            ipvs: self.ipvs.as_ref().map(rule_file),
            sysctls: self.sysctls.as_ref().map(settings),
        }
    }
}

/// Returns `None` for a list that an older agent doesn't have.
fn if_supported<T>(list: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match list {
        Err(failure) if failure.kind() == Kind::Unsupported => Ok(None),
        list => list.map(Some),
    }
}

/// Returns the rule file that creates a table.
pub(super) fn rule_file(table: &Table) -> Vec<RuleLine> {
    let rules = table
        .services()
        .flat_map(|service| table.recreate(service.id));
    let numbers = (1..).map_while(NonZeroU32::new);
    let line = |(number, change): (NonZeroU32, Change)| RuleLine {
        number: number.get(),
        change,
    };
    numbers.zip(rules).map(line).collect()
}

impl PresentCard {
    /// Returns the card; `None` for one of an attachment, or that a command works on.
    fn new(card: Card, record: Option<&CardRecord>) -> Option<Self> {
        if record.is_some_and(|record| {
            let mirror = record.mirror.as_ref();
            mirror.is_some_and(|mirror| mirror.attachment.is_some())
        }) {
            return None;
        }
        let state = match (card.state, card.interface) {
            (Some(CardState::Removing | CardState::Left | CardState::Adding), _) => return None,
            (Some(CardState::NotConfigured), interface) => GuestState::Lost(interface),
            (Some(state @ CardState::Hidden(_)), _) => GuestState::Hidden(state.to_string()),
            (None, Some(interface)) => GuestState::Configured(interface),
            (None, None) => GuestState::Hidden("without an interface".to_owned()),
        };
        Some(Self {
            name: card.name,
            mac: card.mac,
            request: record.and_then(CardRecord::request),
            state,
            admin: record
                .and_then(|record| record.link.as_ref())
                .map_or(AdminState::Up, |link| link.spec.state()),
            port: PortState::AsRequested,
            of_link: None,
            latest: record
                .filter(|record| record.mirror.is_some())
                .and_then(|record| record.link.as_ref())
                .map(|link| link.spec.clone()),
        })
    }

    /// Reads the link of a card that mirrors one.
    fn of_link(&self, sandbox: &Sandbox) -> Option<LinkSpec> {
        let Some(PlugRequest::Mirror(request)) = &self.request else {
            return None;
        };
        let namespace = Netns::open_or_current(sandbox.netns.as_deref()).ok()?;
        let link = mirror::read_silently(&namespace, request).ok()?.link;
        Some(link.with_state(self.admin))
    }

    /// Returns the request for the card as it is; `None` if the journal has lost it.
    pub(super) fn to_request(&self) -> Option<PlugRequest> {
        match (self.request.as_ref()?, &self.state) {
            (PlugRequest::Card(card), GuestState::Configured(interface)) => {
                let link = live(&card.link, interface).unwrap_or_else(|| card.link.clone());
                let card = card.clone();
                Some(PlugRequest::Card(CardRequest { link, ..card }))
            }
            (request, _) => Some(request.clone()),
        }
    }

    /// Warns of a card that a document can't have as it is.
    fn warn(&self) {
        let name = &self.name;
        match (&self.request, &self.state) {
            (None, _) => tracing::warn!("the journal has lost the card {name}: it is left out"),
            (_, GuestState::Configured(_)) => {}
            (_, GuestState::Lost(_) | GuestState::Hidden(_)) => tracing::warn!(
                "the guest has not configured the card {name}: the document has its latest request"
            ),
        }
    }
}

/// Returns the addresses of an interface that patchbay has set.
pub(super) fn own_addresses(interface: &Interface) -> Vec<patchbay_types::InterfaceAddress> {
    let own = interface.addresses.iter();
    let own = own.filter(|found| found.owner == Owner::Patchbay);
    own.map(|found| found.address).collect()
}

/// Returns the configuration that an interface has now; `None` if it can't be requested. Neighbors are
/// in their own section.
fn live(latest: &LinkSpec, interface: &Interface) -> Option<LinkSpec> {
    let parts = latest.parts();
    let fields = LinkFields {
        name: parts.name.clone(),
        mac: parts.mac,
        mtu: Mtu::try_from(u64::from(interface.mtu)).ok()?,
        addresses: own_addresses(interface),
        queues: parts.queues.and(interface.queues),
        arp: interface.arp,
    };
    let absent = latest.addresses_without_prefix_route();
    let spec = LinkSpec::new(fields, "addresses").ok()?;
    let spec = spec.without_prefix_routes(|address| absent.contains(&address));
    // Another state than the requested one is a fault of the guest.
    let spec = spec.with_state(latest.state());
    let promisc = latest.promisc().and(interface.promisc);
    Some(spec.with_promisc(promisc).with_dad(latest.duplicates()))
}
