//! Events of the host: sandboxes, and cards in their journals. The state is compared with the earlier one after each
//! notification, so a lost one does no harm.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use patchbay_types::failure::Failure;
use tracing::subscriber::{NoSubscriber, with_default};

use super::guest::Listener;
use super::{Closed, EventKind, Message, PluggedCard, Scope, Sender};
use crate::ops::recorded;
use crate::sandbox::{self, CardRecord, Phase, Sandbox};
use crate::watch::folders::Folders;

/// Time without a look at the files after a notification, as one change causes several.
const QUIET: Duration = Duration::from_millis(30);
/// Maximum number of guests that are listened to.
const MAX_GUESTS: usize = 512;

/// Follows sandboxes until the receiver has gone.
pub(super) fn run(scope: &Scope, queue: &SyncSender<Message>) {
    let failed =
        |error: io::Error| Failure::of_io("could not watch the folders of sandboxes", &error);
    let follower = Folders::new().map(|folders| Follower {
        scope,
        queue,
        folders,
        known: Vec::new(),
        added: 0,
        is_begun: false,
    });
    let ended = follower
        .map_err(failed)
        .and_then(|mut follower| follower.run());
    if let Err(failure) = ended {
        // The receiver has gone if that fails.
        let _ = queue.send(Err(failure));
    }
}

struct Follower<'a> {
    scope: &'a Scope,
    queue: &'a SyncSender<Message>,
    folders: Folders,
    known: Vec<Known>,
    /// Number of sandboxes that have become known.
    added: u64,
    /// The sandboxes that were there at first are known.
    is_begun: bool,
}

/// Sandbox whose beginning is known.
struct Known {
    machine: Machine,
    cards: Vec<PluggedCard>,
    sender: Sender,
    is_gone: Arc<AtomicBool>,
}

/// Sandbox with the folder of its machine, by which one that began anew is recognized.
struct Machine {
    sandbox: Sandbox,
    folder: PathBuf,
}

impl Machine {
    fn is_same(&self, other: &Self) -> bool {
        (&self.sandbox.id, &self.folder) == (&other.sandbox.id, &other.folder)
    }
}

impl Follower<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::of_io("could not watch the folders of sandboxes", &error);
        loop {
            self.watch_folders().map_err(failed)?;
            let before = self.added;
            match self.compare() {
                // The journals of new ones are read again once their folders are watched.
                Ok(Ok(())) if self.added != before => continue,
                Ok(Ok(())) => {}
                Ok(Err(Closed)) => return Ok(()),
                Err(failure) => return Err(failure),
            }
            self.is_begun = true;
            self.wait().map_err(failed)?;
        }
    }

    fn watch_folders(&mut self) -> io::Result<()> {
        let lookup = &self.scope.lookup;
        let journals = self.known.iter().map(|known| known.machine.folder.clone());
        let folders: Vec<_> = sandbox::folders(lookup)
            .into_iter()
            .chain(journals)
            .collect();
        let monitors = self.known.iter();
        let monitors = monitors.map(|known| known.machine.sandbox.qmp.clone());
        let files: Vec<_> = sandbox::sockets(lookup)
            .into_iter()
            .chain(monitors)
            .collect();
        self.folders.set(&folders, &files)
    }

    fn wait(&self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(self.folders.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            thread::sleep(QUIET);
            if self.folders.drain() {
                return Ok(());
            }
        }
    }

    /// Lists the sandboxes whose monitor exists.
    fn present(&self) -> Result<Vec<Machine>, Failure> {
        let Scope { lookup, ids } = self.scope;
        // Each look would print the warnings about a sandbox.
        let sandboxes = with_default(NoSubscriber::new(), || match &ids[..] {
            [] => sandbox::all(lookup),
            ids => Ok(ids
                .iter()
                .filter_map(|id| sandbox::find(lookup, id).ok())
                .collect()),
        })?;
        let mut machines: Vec<Machine> = Vec::new();
        for sandbox in sandboxes {
            let Ok(state) = sandbox.state() else {
                continue;
            };
            let folder = state.path().to_owned();
            let machine = Machine { sandbox, folder };
            if !machines.iter().any(|other| other.is_same(&machine)) {
                machines.push(machine);
            }
        }
        Ok(machines)
    }

    fn compare(&mut self) -> Result<Result<(), Closed>, Failure> {
        let present = self.present()?;
        Ok(self.report(present))
    }

    fn report(&mut self, present: Vec<Machine>) -> Result<(), Closed> {
        let is_present = |known: &Known| present.iter().any(|found| found.is_same(&known.machine));
        for known in self.known.iter().filter(|known| !is_present(known)) {
            known.is_gone.store(true, Ordering::Relaxed);
            known.sender.send(EventKind::SandboxEnded)?;
        }
        self.known.retain(is_present);
        for machine in present {
            let mut known = self.known.iter_mut();
            match known.find(|known| known.machine.is_same(&machine)) {
                Some(known) => known.report_cards()?,
                None => self.add(machine)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, machine: Machine) -> Result<(), Closed> {
        let sender = Sender {
            sandbox: machine.sandbox.id.clone(),
            queue: self.queue.clone(),
        };
        let mut known = Known {
            machine,
            cards: Vec::new(),
            sender,
            is_gone: Arc::default(),
        };
        if self.is_begun {
            known.sender.send(EventKind::SandboxAppeared)?;
            known.report_cards()?;
        } else {
            known.cards = known.plugged().unwrap_or_default();
        }
        if self.known.len() < MAX_GUESTS {
            known.listen();
        } else {
            let id = &known.machine.sandbox.id;
            tracing::warn!(
                "events of the guest of {id} are left out: {MAX_GUESTS} guests are watched already"
            );
        }
        self.known.push(known);
        self.added += 1;
        Ok(())
    }
}

impl Known {
    fn listen(&self) {
        let listener = Listener {
            sandbox: self.machine.sandbox.clone(),
            sender: self.sender.clone(),
            is_gone: Arc::clone(&self.is_gone),
        };
        if let Err(error) = thread::Builder::new().spawn(move || listener.run()) {
            let id = &self.machine.sandbox.id;
            tracing::warn!("events of the guest of {id} are left out: {error}");
        }
    }

    /// Reports the cards that were plugged or unplugged since the last look. A journal that can't be read is
    /// looked at again with the next change.
    fn report_cards(&mut self) -> Result<(), Closed> {
        let Some(now) = self.plugged() else {
            return Ok(());
        };
        for card in self.cards.iter().filter(|card| !now.contains(card)) {
            self.sender.send(EventKind::CardUnplugged(card.clone()))?;
        }
        for card in now.iter().filter(|card| !self.cards.contains(card)) {
            self.sender.send(EventKind::CardPlugged(card.clone()))?;
        }
        self.cards = now;
        Ok(())
    }

    /// Lists the plugged cards, with those that are being removed.
    fn plugged(&self) -> Option<Vec<PluggedCard>> {
        let records = recorded(&self.machine.sandbox).ok()?.into_iter();
        let is_plugged = |record: &CardRecord| record.phase != Phase::Adding;
        let cards = records.filter(is_plugged).map(|record| PluggedCard {
            mac: record.link.map(|link| link.spec.parts().mac),
            name: record.name,
            device: record.device,
        });
        Some(cards.collect())
    }
}
