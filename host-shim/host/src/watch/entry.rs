//! Sandbox of the service.

use std::path::{Path, PathBuf};
use std::time::Instant;

use patchbay_types::failure::Failure;

use super::events::Events;
use super::given_up::GivenUp;
use super::observer::Observer;
use super::timing::Timing;
use super::{Report, Watched};

/// Sandbox of the service.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) watched: Watched,
    pub(super) events: Events,
    pub(super) timing: Timing,
    /// A thread reconciles it.
    pub(super) is_running: bool,
    /// It is forgotten once no thread reconciles it.
    pub(super) is_gone: bool,
    /// Links that are left alone until they change.
    pub(super) given_up: GivenUp,
    failures: Vec<String>,
}

impl Entry {
    pub(super) fn new(number: u64, watched: Watched, now: Instant) -> Result<Self, Failure> {
        let events = Events::of(&watched.netns).map_err(|error| {
            let id = &watched.sandbox.id;
            let message = format!("could not watch the network namespace of sandbox {id}");
            Failure::of_io(message, &error)
        })?;
        let mut timing = Timing::default();
        timing.request(now);
        Ok(Self {
            number,
            watched,
            events,
            timing,
            is_running: false,
            is_gone: false,
            given_up: GivenUp::default(),
            failures: Vec::new(),
        })
    }

    /// Returns the file whose removal ends the namespace, which the service would keep alive. Entries of
    /// `/proc` end with their process, and inotify doesn't report it.
    pub(super) fn netns_file(&self) -> Option<PathBuf> {
        let path = self.watched.sandbox.netns.clone();
        path.filter(|path| !path.starts_with(Path::new("/proc")))
    }

    /// Returns whether the path of the namespace still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        let path = self.watched.sandbox.netns.as_deref();
        path.is_none_or(|path| self.watched.netns.is_at(path).unwrap_or(false))
    }

    /// Requests an attempt, also for links that were given up.
    pub(super) fn reload(&mut self, now: Instant) {
        self.given_up = GivenUp::default();
        self.timing.request(now);
    }

    /// Passes a report on, and sets the time of the next attempt if it can bring another result.
    pub(super) fn finish(&mut self, report: &Report, now: Instant, observer: &mut dyn Observer) {
        self.is_running = false;
        let sandbox = &self.watched.sandbox;
        if !report.changes.is_empty() {
            observer.changed(sandbox, &report.changes);
        }
        let shown = lines(&report.failures);
        if shown != self.failures && !shown.is_empty() && !self.is_gone {
            observer.failed(Some(sandbox), &report.failures);
        }
        // A link that was given up has its failure still.
        if !shown.is_empty() || report.given_up.is_empty() {
            self.failures = shown;
        }
        self.given_up.clone_from(&report.given_up);
        if report.failures.is_empty() {
            self.timing.succeed();
        } else if report.is_temporary() {
            self.timing.back_off(now);
        } else {
            self.timing.pause(now);
        }
    }
}

/// Returns failures as text.
pub(super) fn lines(failures: &[Failure]) -> Vec<String> {
    failures.iter().map(Failure::line).collect()
}
