//! Handshake: API version, features and layouts (docs/compatibility.md).

use std::fmt;

use patchbay_codec::Bulk;

use crate::proto::agent::{HelloReply, Layouts};

/// Version of the API. Host and agent of different versions refuse each other. It changes only for
/// a break, together with the package name of the `.proto` files, so that an agent knows no method of
/// another version by name.
pub const API_VERSION: u32 = 1;

/// Capability that an agent announces in its handshake. Agents add names that an older host doesn't
/// know; the host ignores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Configure, update and list interfaces.
    Interfaces,
    /// Add, replace, delete and list routes.
    Routes,
    /// IPVS rules, tables, connections and settings.
    Ipvs,
    /// Delete and list tracked flows.
    Conntrack,
    /// Filters of flows by ICMP header, labels, zone of one direction, mask with holes, and state
    /// of SCTP and DCCP.
    ConntrackCriteria,
    /// List the programs in the guest that configure links on their own.
    Managers,
    /// Mark a card before it is plugged. Only in guests whose udev looks for marked cards.
    MarkCard,
    /// Locate cards without an interface.
    Places,
    /// Add, delete and list static neighbors.
    Neighbors,
    /// Release a card that is unplugged.
    Release,
    /// Count and end connections of IPVS.
    EndConnections,
    /// Addresses without a prefix route.
    PrefixRoutes,
    /// Serve other network namespaces of the guest.
    Netns,
    /// Cancel a request.
    Cancel,
    /// Stream the progress of a rule file.
    RestoreProgress,
    /// Set interfaces up and down, their promiscuous mode and ARP.
    LinkFlags,
    /// Rename interfaces.
    Rename,
    /// Stream events of the network.
    Events,
}

impl Feature {
    /// Every feature of this build.
    pub const ALL: [Self; 18] = [
        Self::Interfaces,
        Self::Routes,
        Self::Ipvs,
        Self::Conntrack,
        Self::ConntrackCriteria,
        Self::Managers,
        Self::MarkCard,
        Self::Places,
        Self::Neighbors,
        Self::Release,
        Self::EndConnections,
        Self::PrefixRoutes,
        Self::Netns,
        Self::Cancel,
        Self::RestoreProgress,
        Self::LinkFlags,
        Self::Rename,
        Self::Events,
    ];
    /// Features of the first release.
    pub const FIRST: [Self; 4] = [Self::Interfaces, Self::Routes, Self::Ipvs, Self::Conntrack];

    /// Name in the handshake.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interfaces => "interfaces",
            Self::Routes => "routes",
            Self::Ipvs => "ipvs",
            Self::Conntrack => "conntrack",
            Self::ConntrackCriteria => "conntrack-criteria",
            Self::Managers => "managers",
            Self::MarkCard => "mark-card",
            Self::Places => "places",
            Self::Neighbors => "neighbors",
            Self::Release => "release",
            Self::EndConnections => "end-connections",
            Self::PrefixRoutes => "prefix-routes",
            Self::Netns => "netns",
            Self::Cancel => "cancel",
            Self::RestoreProgress => "restore-progress",
            Self::LinkFlags => "link-flags",
            Self::Rename => "rename",
            Self::Events => "events",
        }
    }

    /// Returns whether the handshake of an agent announces the feature. An agent that announces
    /// none has those of the first release.
    #[must_use]
    pub fn is_announced(self, reply: &HelloReply) -> bool {
        if reply.features.is_empty() {
            return Self::FIRST.contains(&self);
        }
        reply.features.iter().any(|name| name == self.name())
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Announces the layouts that this build reads.
#[must_use]
pub fn layouts() -> Layouts {
    Layouts {
        rules: Bulk::Rules.layout(),
        rows: Bulk::Rows.layout(),
        flows: Bulk::Flows.layout(),
        routes: Bulk::Routes.layout(),
        settings: Bulk::Settings.layout(),
        ..Layouts::default()
    }
}

/// Returns the highest layout of a kind that the agent reads.
#[must_use]
pub fn announced_layout(reply: &HelloReply, bulk: Bulk) -> u32 {
    let layouts = reply.layouts.get_or_default();
    match bulk {
        Bulk::Rules => layouts.rules,
        Bulk::Rows => layouts.rows,
        Bulk::Flows => layouts.flows,
        Bulk::Routes => layouts.routes,
        Bulk::Settings => layouts.settings,
        Bulk::Events => 0,
    }
}
