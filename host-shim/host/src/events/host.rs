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
use patchbay_types::failure::{Failure, Kind};
use tracing::subscriber::{NoSubscriber, with_default};

use super::guest::Listener;
use super::ipvs::Poller;
use super::{Closed, EventKind, Message, PluggedCard, Scope, Sender};
use crate::ops::recorded;
use crate::sandbox::{self, CardRecord, Phase, Sandbox};
use crate::watch::folders::Folders;

/// Time without a look at the files after a notification, as one change causes several.
const QUIET: Duration = Duration::from_millis(30);
/// Maximum number of guests that are listened to. Each takes about four descriptors, of which a process has 1024
/// by default, and one of the 512 ports that only root can connect from.
const MAX_GUESTS: usize = 128;

/// Follows sandboxes until the receiver has gone.
pub(super) fn run(scope: &Scope, queue: &SyncSender<Message>) {
    let failed =
        |error: io::Error| Failure::of_io("could not watch the folders of sandboxes", &error);
    let follower = Folders::new().map(|folders| Follower {
        scope,
        queue,
        folders,
        known: Vec::new(),
        awaited: Vec::new(),
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
    /// Monitors of sandboxes that are registered before QEMU makes them.
    awaited: Vec<PathBuf>,
    /// Number of sandboxes that have become known.
    added: u64,
    /// The sandboxes that were there at first are known.
    is_begun: bool,
}

/// Sandbox whose beginning is known.
struct Known {
    machine: Machine,
    /// `None` until the journal could be read.
    cards: Option<Vec<PluggedCard>>,
    sender: Sender,
    is_gone: Arc<AtomicBool>,
    /// A thread listens to its guest, or has done so.
    is_listened: bool,
    /// A warning was printed because none does.
    is_warned: bool,
}

/// Sandbox with the folder of its machine, by which one that began anew is recognized.
#[derive(Clone)]
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
            let before = (self.added, self.awaited.clone());
            if let Err(Closed) = self.compare()? {
                return Ok(());
            }
            // Journals of new ones, and monitors, are looked at again once their folders are watched.
            if (self.added, &self.awaited) != (before.0, &before.1) {
                continue;
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
            .chain(sandbox::libvirt_folders(lookup))
            .chain(journals)
            .collect();
        let monitors = self.known.iter();
        let monitors = monitors.map(|known| known.machine.sandbox.qmp.clone());
        let files: Vec<_> = sandbox::sockets(lookup)
            .into_iter()
            .chain(monitors)
            .chain(self.awaited.iter().cloned())
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

    /// Lists the sandboxes whose monitor exists, and remembers the monitors of the others.
    fn present(&mut self) -> Result<Vec<Machine>, Failure> {
        let Scope { lookup, ids, .. } = self.scope;
        // Each look would print the warnings about a sandbox.
        let sandboxes = with_default(NoSubscriber::new(), || match &ids[..] {
            [] => sandbox::all(lookup),
            ids => Ok(ids
                .iter()
                .filter_map(|id| sandbox::find(lookup, id).ok())
                .collect()),
        })?;
        let mut machines: Vec<Machine> = Vec::new();
        self.awaited.clear();
        for sandbox in sandboxes {
            let Ok(state) = sandbox.state() else {
                self.awaited.push(sandbox.qmp);
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

    /// Returns whether files of a sandbox can't be read at the moment, as while they are written.
    fn is_unreadable(&self, machine: &Machine) -> bool {
        let find = || sandbox::find(&self.scope.lookup, machine.sandbox.id.as_str());
        let found = with_default(NoSubscriber::new(), find);
        found.is_err_and(|failure| failure.kind() != Kind::NotFound)
    }

    fn compare(&mut self) -> Result<Result<(), Closed>, Failure> {
        let mut present = self.present()?;
        let absent = self.known.iter().map(|known| &known.machine);
        let absent = absent.filter(|known| !present.iter().any(|found| found.is_same(known)));
        let kept: Vec<_> = absent
            .filter(|known| self.is_unreadable(known))
            .cloned()
            .collect();
        present.extend(kept);
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
        self.listen();
        Ok(())
    }

    /// Listens to the guests, as far as their number allows it.
    fn listen(&mut self) {
        let listened = self.known.iter().filter(|known| known.is_listened).count();
        let free = MAX_GUESTS.saturating_sub(listened);
        let others = self.known.iter_mut().filter(|known| !known.is_listened);
        for (index, known) in others.enumerate() {
            if index < free {
                known.listen();
                if let Some(interval) = self.scope.ipvs_interval {
                    known.poll_ipvs(interval);
                }
            } else if !known.is_warned {
                known.is_warned = true;
                let id = &known.machine.sandbox.id;
                tracing::warn!(
                    "events of the guest of {id} are left out as long as {MAX_GUESTS} others are watched"
                );
            }
        }
    }

    fn add(&mut self, machine: Machine) -> Result<(), Closed> {
        let sender = Sender {
            sandbox: machine.sandbox.id.clone(),
            queue: self.queue.clone(),
        };
        let mut known = Known {
            machine,
            cards: Some(Vec::new()),
            sender,
            is_gone: Arc::default(),
            is_listened: false,
            is_warned: false,
        };
        if self.is_begun {
            known.sender.send(EventKind::SandboxAppeared)?;
            known.report_cards()?;
        } else {
            known.cards = known.plugged();
        }
        self.known.push(known);
        self.added += 1;
        Ok(())
    }
}

impl Known {
    fn listen(&mut self) {
        self.is_listened = true;
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

    /// Compares the IPVS tables of the guest at an interval.
    fn poll_ipvs(&self, interval: Duration) {
        let poller = Poller {
            sandbox: self.machine.sandbox.clone(),
            sender: self.sender.clone(),
            is_gone: Arc::clone(&self.is_gone),
            interval,
        };
        if let Err(error) = thread::Builder::new().spawn(move || poller.run()) {
            let id = &self.machine.sandbox.id;
            tracing::warn!("changes of IPVS in {id} are left out: {error}");
        }
    }

    /// Reports the cards that were plugged or unplugged since the last look. A journal that can't be read is
    /// looked at again with the next change.
    fn report_cards(&mut self) -> Result<(), Closed> {
        let Some(now) = self.plugged() else {
            return Ok(());
        };
        if let Some(before) = &self.cards {
            for card in before.iter().filter(|card| !now.contains(card)) {
                self.sender.send(EventKind::CardUnplugged(card.clone()))?;
            }
            for card in now.iter().filter(|card| !before.contains(card)) {
                self.sender.send(EventKind::CardPlugged(card.clone()))?;
            }
        }
        self.cards = Some(now);
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
