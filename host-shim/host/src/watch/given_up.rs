//! Links for which no card can be plugged while they stay as they are.
//!
//! An attempt that fails makes notifications by its TAP, which would cause the next one.

use std::time::{Duration, Instant};

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{IfName, LinkName};

use super::{Watched, request};
use crate::card::CardRequest;
use crate::mirror;
use crate::ops;

/// Everything that decides whether a card can be plugged for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LinkState {
    /// The card, or the reason why the link can't be mirrored.
    card: Result<CardRequest, String>,
    others: Vec<IfName>,
}

impl LinkState {
    fn read(watched: &Watched, link: &LinkName, name: &IfName) -> Self {
        let card = mirror::read_silently(&watched.netns, &request(link, name));
        let records = ops::recorded(&watched.sandbox).unwrap_or_default();
        Self {
            card: card.map_err(|failure| failure.line()),
            others: records.into_iter().map(|record| record.name).collect(),
        }
    }
}

/// Time after which a notification causes another attempt: the guest, or slots of the machine, can have changed.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Links with the states in which a plug has failed.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenUp(Vec<Attempt>);

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    link: LinkName,
    state: LinkState,
    at: Instant,
}

impl GivenUp {
    /// Returns the attempt for a link that has not changed since then.
    pub(super) fn unchanged(
        &self,
        watched: &Watched,
        link: &LinkName,
        name: &IfName,
    ) -> Option<Attempt> {
        let mut recent = self.0.iter();
        let attempt =
            recent.find(|known| known.link == *link && known.at.elapsed() < RETRY_AFTER)?;
        (LinkState::read(watched, link, name) == attempt.state).then(|| attempt.clone())
    }

    /// Adds an attempt that has failed now.
    pub(super) fn add(&mut self, watched: &Watched, link: &LinkName, name: &IfName) {
        self.0.push(Attempt {
            link: link.clone(),
            state: LinkState::read(watched, link, name),
            at: Instant::now(),
        });
    }

    pub(super) fn keep(&mut self, attempt: Attempt) {
        self.0.push(attempt);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns whether an attempt fails again while neither links nor cards change.
pub(super) fn is_lasting(failure: &Failure) -> bool {
    matches!(
        failure.kind(),
        Kind::Invalid | Kind::Unsupported | Kind::Exists | Kind::Denied
    )
}
