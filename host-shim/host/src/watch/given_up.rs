//! Links for which no card can be plugged while they stay as they are.
//!
//! An attempt that fails makes notifications by its TAP, which would cause the next one.

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, LinkName};
use tracing::subscriber::{NoSubscriber, with_default};

use super::{Watched, request};
use crate::card::CardRequest;
use crate::mirror;
use crate::ops;

/// Everything that decides whether a card can be plugged for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkState {
    /// The card, or the reason why the link can't be mirrored.
    card: Result<CardRequest, String>,
    others: Vec<IfName>,
}

impl LinkState {
    pub(super) fn read(watched: &Watched, link: &LinkName, name: &IfName) -> Self {
        // Warnings about the link are those of the plug.
        let card = with_default(NoSubscriber::new(), || {
            mirror::read(&watched.netns, &request(link, name), &[])
        });
        let records = ops::recorded(&watched.sandbox).unwrap_or_default();
        Self {
            card: card.map_err(|failure| failure.line()),
            others: records.into_iter().map(|record| record.name).collect(),
        }
    }
}

/// Links with the states in which a plug has failed.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenUp(Vec<(LinkName, LinkState)>);

impl GivenUp {
    /// Returns the state of a link that has not changed since its plug failed.
    pub(super) fn unchanged(
        &self,
        watched: &Watched,
        link: &LinkName,
        name: &IfName,
    ) -> Option<LinkState> {
        let (_, state) = self.0.iter().find(|(known, _)| known == link)?;
        (LinkState::read(watched, link, name) == *state).then(|| state.clone())
    }

    pub(super) fn add(&mut self, link: LinkName, state: LinkState) {
        self.0.push((link, state));
    }
}

/// Returns whether an attempt fails again while neither links nor cards change.
pub(super) fn is_lasting(failure: &Failure) -> bool {
    matches!(
        failure.kind(),
        Kind::Invalid | Kind::Unsupported | Kind::Exists | Kind::Denied
    )
}
