//! The network of a sandbox as one value: read, compared with a wanted one, and changed to it.
//!
//! [`Present::read`] takes a snapshot, [`plan`] is a pure function from the wanted network and a snapshot to
//! steps, and [`apply`] carries these out with the operations of [`ops`](crate::ops). Each step is
//! complete or undone by itself; if one fails, those before it are undone in reverse order.

mod apply;
mod cards;
mod devices;
mod guest_steps;
mod host_check;
mod plan;
mod present;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use patchbay_types::ipvs::{RuleLine, Setting};
use patchbay_types::{AdminState, Neighbor, RouteSpec};

use crate::card::PlugRequest;

pub use apply::{Limits, apply};
pub use host_check::check_host;
pub use plan::{Plan, plan};
pub use present::Present;

/// Wanted network of a sandbox. A section that is `None` is not managed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Cards.
    pub interfaces: Option<Vec<PlugRequest>>,
    /// Routes.
    pub routes: Option<Vec<RouteSpec>>,
    /// Static neighbors, without those of the cards' own requests.
    pub neighbors: Option<Vec<Neighbor>>,
    /// IPVS services and servers as the lines of a rule file that add them.
    pub ipvs: Option<Vec<RuleLine>>,
    /// Settings; others keep their values.
    pub sysctls: Option<Vec<Setting>>,
}

impl Wanted {
    /// Returns the sections that are managed.
    #[must_use]
    pub fn sections(&self) -> BTreeSet<Section> {
        let given = [
            (Section::Interfaces, self.interfaces.is_some()),
            (Section::Routes, self.routes.is_some()),
            (Section::Neighbors, self.neighbors.is_some()),
            (Section::Ipvs, self.ipvs.is_some()),
            (Section::Sysctls, self.sysctls.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(section, _)| section).collect()
    }
}

/// Section of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Cards.
    Interfaces,
    /// Routes.
    Routes,
    /// Static neighbors.
    Neighbors,
    /// IPVS table.
    Ipvs,
    /// Settings.
    Sysctls,
}

impl Section {
    /// All sections.
    pub const ALL: [Self; 5] = [
        Self::Interfaces,
        Self::Routes,
        Self::Neighbors,
        Self::Ipvs,
        Self::Sysctls,
    ];

    /// Returns the key of the section in a document.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Interfaces => "interfaces",
            Self::Routes => "routes",
            Self::Neighbors => "neighbors",
            Self::Ipvs => "ipvs",
            Self::Sysctls => "sysctls",
        }
    }
}

/// Treatment of cards, routes, neighbors and rules that a managed section does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// They are removed.
    Remove,
    /// They are kept, unless they conflict with the document.
    Keep,
}

/// Step of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Unplugs a card.
    Unplug(Unplug),
    /// Plugs a card.
    Plug(Box<PlugRequest>),
    /// Configures a card that the guest has changed or whose configuration it has lost by a restart. It is
    /// not undone: it completes an earlier request.
    Configure(Configure),
    /// Changes addresses and MTU of a card.
    Update(Update),
    /// Changes static neighbors.
    Neighbors(NeighborsStep),
    /// Changes routes.
    Routes(RoutesStep),
    /// Changes the IPVS table.
    Ipvs(Box<IpvsStep>),
    /// Changes settings.
    Sysctls(Vec<SysctlChange>),
}

/// Card to unplug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplug {
    /// The request that plugs it again.
    pub card: Box<PlugRequest>,
    /// Why the same card can't stay, if the document has another one of this name.
    pub difference: Option<&'static str>,
}

/// Card to configure anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configure {
    /// The latest request for the card.
    pub card: Box<PlugRequest>,
    /// Administrative state that the card gets.
    pub state: AdminState,
    /// Difference of its present state.
    pub difference: String,
}

/// Change of a card, and its inverse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The change.
    pub change: patchbay_types::LinkChange,
    /// The change back.
    pub undo: patchbay_types::LinkChange,
}

/// Values to remove and to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange<T> {
    /// Removed.
    pub removed: Vec<T>,
    /// Added.
    pub added: Vec<T>,
}

impl<T> Exchange<T> {
    /// Returns whether nothing is exchanged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// Change of static neighbors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborsStep {
    /// Wanted neighbors.
    pub list: Vec<Neighbor>,
    /// Treatment of neighbors that are not in the list.
    pub strangers: Strangers,
    /// Their difference from those that the guest has.
    pub difference: Exchange<Neighbor>,
}

/// Change of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutesStep {
    /// Routes of the document.
    pub wanted: Vec<RouteSpec>,
    /// Their difference from the routes that the guest has.
    pub difference: Exchange<patchbay_types::Route>,
    /// Treatment of other routes.
    pub strangers: Strangers,
}

/// Change of the IPVS table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpvsStep {
    /// Rule file.
    pub lines: Vec<RuleLine>,
    /// Its difference from the table that the guest has.
    pub changes: Vec<patchbay_types::ipvs::Change>,
    /// Rule file of the present table.
    pub before: Vec<RuleLine>,
    /// Treatment of rules that the file does not have.
    pub strangers: Strangers,
}

/// Change of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysctlChange {
    /// New value.
    pub new: Setting,
    /// Present value; `None` if the guest has not loaded the module of the setting, or has a value that
    /// can't be set.
    pub old: Option<Setting>,
}
