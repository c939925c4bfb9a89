//! Steps from a snapshot to the wanted network.
//!
//! Cards come first: routes and neighbors need them. A card that the document does not have is unplugged
//! last, when nothing else can fail any more, unless a new card needs its device, its MAC address or
//! its slot.

use std::collections::{HashMap, HashSet};

use patchbay_types::failure::Failure;
use patchbay_types::ipvs::{MaxRules, Table};
use patchbay_types::{AdminState, IfName, LinkName, MacAddr, Neighbor, RouteSpec};

use super::cards::{Treatment, compare};
use super::devices::Devices;
use super::guest_steps::{ipvs_step, neighbors_step, sysctls_step};
use super::present::{Present, PresentCard};
use super::{Configure, Step, Strangers, Unplug, Update, Wanted, routes};
use crate::card::PlugRequest;
use crate::managed_route;

/// Steps from one network to another.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
    /// Routes before the first step, to be restored after a failure; `None` if no step concerns them.
    pub(super) routes_before: Option<Vec<RouteSpec>>,
    /// Static neighbors before the first step.
    pub(super) neighbors_before: Vec<Neighbor>,
}

impl Plan {
    /// Returns the steps in their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns whether the sandbox has the wanted network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Plans the steps from a snapshot to the wanted network.
///
/// # Errors
/// [`Kind::Invalid`](patchbay_types::failure::Kind::Invalid) for a document that contradicts itself,
/// [`Kind::NotFound`](patchbay_types::failure::Kind::NotFound) for a device that neither the guest nor the
/// document has, [`Kind::Unsupported`](patchbay_types::failure::Kind::Unsupported) for a section that the
/// agent doesn't have; the failure's field is the place in the document.
pub fn plan(
    wanted: &Wanted,
    present: &Present,
    strangers: Strangers,
    max_rules: MaxRules,
) -> Result<Plan, Failure> {
    let cards = match &wanted.interfaces {
        Some(interfaces) => Cards::plan(interfaces, present, strangers)?,
        None => Cards::default(),
    };
    let devices = Devices::new(wanted, present, cards.unplugged());
    let gone = cards.gone_early(&present.renamed);
    let mut steps = Vec::new();
    // A change of a card can add or remove neighbors and routes.
    if let Some(step) = neighbors_step(wanted, present, &devices, &gone, strangers)?
        && (!step.difference.is_empty() || cards.changes_any())
    {
        steps.push(Step::Neighbors(step));
    }
    if let Some(list) = &wanted.routes {
        let wanted = devices.routes(list)?;
        let known = present.routes.as_deref();
        let lost = gone.into_iter().chain(cards.set_down(&present.renamed));
        let step = routes::step(
            wanted,
            known.unwrap_or_default(),
            &lost.collect(),
            strangers,
        );
        if !step.difference.is_empty() || cards.changes_any() {
            steps.push(Step::Routes(step));
        }
    }
    if let Some(lines) = &wanted.ipvs {
        let before = present.ipvs.as_ref();
        let step = ipvs_step(
            lines,
            before.unwrap_or(&Table::default()),
            strangers,
            max_rules,
        )?;
        steps.extend(step.map(|step| Step::Ipvs(Box::new(step))));
    }
    if let Some(settings) = &wanted.sysctls {
        let step = sysctls_step(settings, present.sysctls.as_deref().unwrap_or_default());
        steps.extend((!step.is_empty()).then_some(Step::Sysctls(step)));
    }
    Ok(Plan {
        steps: cards.into_steps(steps),
        routes_before: present
            .routes
            .as_ref()
            .map(|routes| routes.iter().filter_map(managed_route::request).collect()),
        neighbors_before: present.neighbors.clone().unwrap_or_default(),
    })
}

/// Steps of cards.
#[derive(Debug, Default)]
struct Cards {
    /// Cards that are unplugged before others are plugged.
    early: Vec<Unplug>,
    plugged: Vec<PlugRequest>,
    configured: Vec<Configure>,
    updated: Vec<Update>,
    /// Cards that are unplugged when all else is done.
    late: Vec<Unplug>,
}

impl Cards {
    fn plan(
        wanted: &[PlugRequest],
        present: &Present,
        strangers: Strangers,
    ) -> Result<Self, Failure> {
        let present_cards = present.cards.as_deref().unwrap_or_default();
        let find = |name: &IfName| present_cards.iter().find(|card| card.name == *name);
        let mut cards = Self::default();
        for (index, request) in wanted.iter().enumerate() {
            let Some(card) = find(request.name()) else {
                cards.plugged.push(request.clone());
                continue;
            };
            let at = |failure: Failure| failure.with_field(format!("interfaces[{index}].name"));
            match compare(card, request).map_err(at)? {
                Treatment::Replace(unplug) => {
                    cards.early.push(unplug);
                    cards.plugged.push(request.clone());
                }
                Treatment::Keep(configure, update) => {
                    cards.configured.extend(configure);
                    cards.updated.extend(update.map(|update| *update));
                }
            }
        }
        if strangers == Strangers::Remove {
            let names: HashSet<_> = wanted.iter().map(PlugRequest::name).collect();
            let is_stranger = |card: &&PresentCard| !names.contains(&card.name);
            let unplugged = present_cards.iter().filter(is_stranger);
            cards.late = unplugged
                .map(|card| card.unplug(None))
                .collect::<Result<_, _>>()?;
        }
        cards.advance(present.free_slots);
        Ok(cards)
    }

    /// Moves those cards to the early ones that have something which a new card needs.
    fn advance(&mut self, free_slots: usize) {
        let needed: HashSet<_> = self.plugged.iter().flat_map(identity).collect();
        let is_needed = |unplug: &mut Unplug| identity(&unplug.card).any(|id| needed.contains(&id));
        self.early.extend(self.late.extract_if(.., is_needed));
        let slots = free_slots + self.early.len();
        let missing = self.plugged.len().saturating_sub(slots);
        let count = missing.min(self.late.len());
        self.early.extend(self.late.drain(..count));
    }

    /// Returns the devices that end before routes are changed.
    fn gone_early(&self, renamed: &HashMap<LinkName, LinkName>) -> HashSet<LinkName> {
        let early = self.early.iter();
        let names = early.map(|unplug| LinkName::from(unplug.card.name()));
        names.map(|name| present(name, renamed)).collect()
    }

    /// Returns the devices that are set down, which costs their routes but no static neighbors.
    fn set_down<'a>(
        &'a self,
        renamed: &'a HashMap<LinkName, LinkName>,
    ) -> impl Iterator<Item = LinkName> + 'a {
        let configured = self.configured.iter();
        let configured = configured
            .filter(|configure| configure.state == AdminState::Down)
            .map(|configure| LinkName::from(configure.card.name()));
        let updated = self.updated.iter().map(|update| &update.change);
        let updated = updated
            .filter(|change| change.flags().state == Some(AdminState::Down))
            .map(|change| change.name().clone());
        let names = configured.chain(updated);
        names.map(|name| present(name, renamed))
    }

    fn unplugged(&self) -> impl Iterator<Item = &Unplug> {
        self.early.iter().chain(&self.late)
    }

    fn changes_any(&self) -> bool {
        !(self.early.is_empty()
            && self.plugged.is_empty()
            && self.configured.is_empty()
            && self.updated.is_empty())
    }

    fn into_steps(self, between: Vec<Step>) -> Vec<Step> {
        let early = self.early.into_iter().map(Step::Unplug);
        let configured = self.configured.into_iter().map(Step::Configure);
        let updated = self.updated.into_iter().map(Step::Update);
        let plugged = self.plugged.into_iter().map(Box::new).map(Step::Plug);
        let late = self.late.into_iter().map(Step::Unplug);
        let cards = early.chain(configured).chain(updated).chain(plugged);
        cards.chain(between).chain(late).collect()
    }
}

/// Returns the present name of a card.
fn present(name: LinkName, renamed: &HashMap<LinkName, LinkName>) -> LinkName {
    renamed.get(&name).cloned().unwrap_or(name)
}

/// Property that no two cards can have.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    Device(LinkName),
    Mac(MacAddr),
    Link(LinkName),
}

fn identity(request: &PlugRequest) -> impl Iterator<Item = Identity> {
    let ids = match request {
        PlugRequest::Card(card) => vec![
            Identity::Device(card.device.clone()),
            Identity::Mac(card.link.parts().mac),
        ],
        PlugRequest::Mirror(mirror) => vec![Identity::Link(mirror.link.clone())],
    };
    ids.into_iter()
}
