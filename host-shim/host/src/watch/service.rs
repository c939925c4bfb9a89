//! The long-running form: a sandbox is reconciled when something in its namespace has changed.
//!
//! One thread waits for notifications. It changes nothing by itself: each sandbox whose namespace has been
//! quiet for a moment is reconciled on a separate thread, so that a guest that doesn't answer delays no
//! other one.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_types::failure::Failure;

use super::control::{Control, Inbox, Mailbox, Message, mailbox};
use super::entry::{Entry, lines};
use super::folders::Folders;
use super::observer::Observer;
use super::timing::Timing;
use super::{Policy, Stop, discover, reconcile_others};
use crate::sandbox::{self, Lookup, Sandbox};

/// Maximum number of sandboxes that are reconciled at the same time.
const MAX_RUNNING: usize = 16;

/// Function that finds the selected sandboxes, without those that are missing; `None`: all are selected.
pub type Select<'a> = &'a dyn Fn() -> Result<Option<Vec<Sandbox>>, Failure>;

/// Watch over sandboxes.
pub struct Service<'a> {
    lookup: &'a Lookup,
    select: Select<'a>,
    policy: Policy,
    folders: Folders,
    inbox: Inbox,
    mailbox: Mailbox,
    stop: Stop,
    entries: Vec<Entry>,
    next_number: u64,
    /// Search for sandboxes.
    search: Timing,
    search_failures: Vec<String>,
    /// Number of sandboxes that the observer knows.
    announced: Option<usize>,
    is_stopping: bool,
}

impl std::fmt::Debug for Service<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl<'a> Service<'a> {
    /// Prepares the watch over the sandboxes of `lookup`, and its control.
    ///
    /// # Errors
    /// A process or a host without free descriptors or watches of inotify.
    pub fn new(
        lookup: &'a Lookup,
        select: Select<'a>,
        policy: Policy,
    ) -> Result<(Self, Control), Failure> {
        let prepare = || -> io::Result<_> {
            let (mailbox, inbox) = mailbox()?;
            Ok((mailbox.try_clone()?, mailbox, inbox, Folders::new()?))
        };
        let message = "could not prepare the watch";
        let prepared = prepare().map_err(|error| Failure::of_io(message, &error));
        let (for_control, mailbox, inbox, folders) = prepared?;
        let stop = Stop::default();
        let control = Control {
            mailbox: for_control,
            stop: stop.clone(),
        };
        let service = Self {
            lookup,
            select,
            policy,
            folders,
            inbox,
            mailbox,
            stop,
            entries: Vec::new(),
            next_number: 0,
            search: Timing::default(),
            search_failures: Vec::new(),
            announced: None,
            is_stopping: false,
        };
        Ok((service, control))
    }

    /// Watches until the stop is requested.
    ///
    /// # Errors
    /// Notifications that can't be received.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<(), Failure> {
        self.search.request(Instant::now());
        let mut alive = Instant::now();
        loop {
            let now = Instant::now();
            if self.stop.is_requested() {
                if !self.is_stopping {
                    self.is_stopping = true;
                    observer.stopping();
                }
                if self.running() == 0 {
                    return Ok(());
                }
            } else {
                if self.search.take(now) {
                    self.search(now, observer);
                }
                self.start_due(now);
            }
            let interval = observer.interval();
            if interval.is_some_and(|interval| now >= alive + interval) {
                observer.alive();
                alive = now;
            }
            let next_alive = interval.map(|interval| alive + interval);
            let failed = |error| Failure::of_io("could not wait for notifications", &error);
            self.wait(next_alive, observer).map_err(failed)?;
        }
    }

    fn running(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_running).count()
    }

    /// Looks for sandboxes. Folders are watched before they are read, so that no sandbox is missed.
    fn search(&mut self, now: Instant, observer: &mut dyn Observer) {
        let failures = match self.find(now) {
            Ok(failures) => failures,
            Err(failure) => {
                self.search.retry(now);
                vec![failure]
            }
        };
        let shown = lines(&failures);
        if shown != self.search_failures && !failures.is_empty() {
            observer.failed(None, &failures);
        }
        self.search_failures = shown;
        let count = self.entries.iter().filter(|entry| !entry.is_gone).count();
        if self.announced != Some(count) {
            self.announced = Some(count);
            observer.watching(count);
        }
    }

    /// Returns the failures of single sandboxes.
    fn find(&mut self, now: Instant) -> Result<Vec<Failure>, Failure> {
        self.watch_folders()?;
        let selected = (self.select)()?;
        let found = discover(self.lookup, selected.as_deref())?;
        let mut failures = found.failures;
        let mut is_incomplete = found.is_incomplete;
        for entry in &mut self.entries {
            entry.is_gone = true;
        }
        for watched in found.watched {
            let mut known = self.entries.iter_mut();
            if let Some(entry) = known.find(|entry| entry.watched.is_same(&watched)) {
                // Its agent can have another address.
                entry.watched = watched;
                entry.is_gone = false;
                continue;
            }
            match Entry::new(self.next_number, watched, now) {
                Ok(entry) => self.entries.push(entry),
                Err(failure) => {
                    failures.push(failure);
                    is_incomplete = true;
                }
            }
            self.next_number += 1;
        }
        self.entries
            .retain(|entry| !entry.is_gone || entry.is_running);
        self.watch_folders()?;
        let is_lost = |entry: &Entry| !entry.is_gone && !entry.is_in_place();
        if self.entries.iter().any(is_lost) {
            self.search.notify(now);
        } else if is_incomplete {
            self.search.retry(now);
        } else {
            self.search.succeed();
        }
        Ok(failures)
    }

    fn watch_folders(&mut self) -> Result<(), Failure> {
        let namespaces = self.entries.iter().filter_map(Entry::netns_file);
        let files = namespaces.chain(sandbox::sockets(self.lookup));
        let files: Vec<PathBuf> = files.collect();
        let set = self.folders.set(&sandbox::folders(self.lookup), &files);
        set.map_err(|error| Failure::of_io("could not watch the folders of sandboxes", &error))
    }

    fn start_due(&mut self, now: Instant) {
        let mut free = MAX_RUNNING.saturating_sub(self.running());
        for entry in &mut self.entries {
            if free == 0 {
                return;
            }
            if entry.is_running || entry.is_gone || !entry.timing.take(now) {
                continue;
            }
            match start(entry, &self.policy, &self.stop, &self.mailbox) {
                Ok(()) => {
                    entry.is_running = true;
                    free -= 1;
                }
                Err(error) => {
                    tracing::warn!("could not start a thread: {error}");
                    entry.timing.back_off(now);
                }
            }
        }
    }

    /// Waits for notifications and messages, or until something is due.
    fn wait(&mut self, alive: Option<Instant>, observer: &mut dyn Observer) -> io::Result<()> {
        let has_free = self.running() < MAX_RUNNING;
        let can_start = |entry: &&Entry| has_free && !entry.is_running && !entry.is_gone;
        let entries = self.entries.iter().filter(can_start);
        let due = entries.filter_map(|entry| entry.timing.due());
        let due = due.chain(self.search.due()).filter(|_| !self.is_stopping);
        let until = due.chain(alive).min();
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, or the last millisecond would be waited for without a pause.
            let left = left + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let sources = [self.inbox.wake.as_fd(), self.folders.as_fd()];
        let sources = sources.into_iter();
        let sources = sources.chain(self.entries.iter().map(|entry| entry.events.as_fd()));
        let mut fds: Vec<_> = sources
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let ready: Vec<bool> = ready.collect();
        let now = Instant::now();
        for (entry, is_ready) in self.entries.iter_mut().zip(&ready[2..]) {
            if *is_ready {
                entry.events.drain();
                entry.timing.notify(now);
            }
        }
        if ready[1] && self.folders.drain() {
            self.search.notify(now);
        }
        if ready[0] {
            for message in self.inbox.receive() {
                self.handle(message, now, observer);
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: Message, now: Instant, observer: &mut dyn Observer) {
        match message {
            Message::Stop => {}
            Message::Reload => {
                self.search.request(now);
                for entry in &mut self.entries {
                    entry.reload(now);
                }
            }
            Message::Done(number, report) => {
                let mut entries = self.entries.iter_mut();
                if let Some(entry) = entries.find(|entry| entry.number == number) {
                    entry.finish(&report, now, observer);
                }
                self.entries
                    .retain(|entry| !entry.is_gone || entry.is_running);
            }
        }
    }
}

/// Starts to reconcile a sandbox.
fn start(entry: &Entry, policy: &Policy, stop: &Stop, mailbox: &Mailbox) -> io::Result<()> {
    let (number, mailbox) = (entry.number, mailbox.try_clone()?);
    let (watched, policy, stop) = (entry.watched.clone(), policy.clone(), stop.clone());
    let given_up = entry.given_up.clone();
    let work = move || {
        let report = reconcile_others(&watched, &policy, &stop, given_up);
        drop(watched);
        mailbox.send(Message::Done(number, report));
    };
    thread::Builder::new().spawn(work).map(drop)
}
