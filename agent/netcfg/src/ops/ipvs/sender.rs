//! Changes on their way to the kernel, in batches.

use std::num::NonZeroU32;

use patchbay_types::ipvs::{Change, Engine, Restored, Scheduler, Service, Step, Table};

use super::Room;
use super::error::Error;
use super::undo_log::UndoLog;
use crate::ipvs::Ipvs;
use patchbay_netlink::{Batch, Generic, Transport as _};

/// Most changes in one batch: how far it goes on after a refusal.
const BATCH: usize = 512;

/// The kernel's word for a service that has no scheduler (yet).
const NO_SCHEDULER: &str = "none";
/// This scheduler makes its whole table anew for every server that comes or goes.
const HASHED: &str = "mh";

/// Carries out changes in their order, up to the first refusal. Changes that are not finished are
/// not all sent.
pub(super) struct Sender<'a> {
    room: &'a mut Room,
    /// What there was, and where it is logged before it changes.
    from: &'a Table,
    log: &'a mut UndoLog,
    ipvs: Ipvs,
    batch: Batch<Generic>,
    /// What each request of the batch is called, should the kernel refuse it.
    told: Vec<Step>,
    /// A service that gets its scheduler when its servers are there.
    postponed: Option<(Service, Option<NonZeroU32>)>,
    /// Schedulers and persistence engines whose modules were looked for.
    loaded: Vec<(Scheduler, Option<Engine>)>,
    none: Option<Scheduler>,
    restored: Restored,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        room: &'a mut Room,
        from: &'a Table,
        log: &'a mut UndoLog,
    ) -> Result<Self, Error> {
        Ok(Self {
            ipvs: room.ipvs()?,
            room,
            from,
            log,
            batch: Batch::default(),
            told: Vec::with_capacity(BATCH),
            postponed: None,
            loaded: Vec::new(),
            none: NO_SCHEDULER.parse().ok(),
            restored: Restored::default(),
        })
    }

    /// Adds a change; the batch goes when it is full.
    pub(super) fn push(&mut self, change: Change, line: Option<NonZeroU32>) -> Result<(), Error> {
        match &change {
            Change::AddServer(..) => {}
            _ => self.schedule(),
        }
        self.log.lose(self.from, &change);
        match &change {
            Change::AddService(_) | Change::AddServer(..) => self.restored.added += 1,
            Change::EditService(_) | Change::EditServer(..) => self.restored.edited += 1,
            Change::DeleteService(_) | Change::DeleteServer(..) | Change::Clear => {
                self.restored.deleted += 1;
            }
            _ => {}
        }
        if let Change::AddService(service) | Change::EditService(service) = &change {
            self.load_for(service)?;
        }
        match (&change, self.none) {
            (Change::AddService(service), Some(none)) if service.scheduler.as_str() == HASHED => {
                let bare = Service {
                    scheduler: none,
                    ..service.clone()
                };
                self.ipvs.push(&mut self.batch, &Change::AddService(bare));
                self.postponed = Some((service.clone(), line));
            }
            _ => {
                self.ipvs.push(&mut self.batch, &change);
            }
        }
        self.told.push((change, line));
        if self.told.len() >= BATCH {
            return self.send();
        }
        Ok(())
    }

    /// Sends what is left, and says how much was done.
    pub(super) fn finish(mut self) -> Result<Restored, Error> {
        self.schedule();
        self.send()?;
        Ok(self.restored)
    }

    /// Gives the service before its scheduler: its table is made once, for all its servers.
    fn schedule(&mut self) {
        if let Some((service, line)) = self.postponed.take() {
            let change = Change::EditService(service.clone());
            self.ipvs.push(&mut self.batch, &change);
            self.told.push((Change::AddService(service), line));
        }
    }

    fn load_for(&mut self, service: &Service) -> Result<(), Error> {
        let needed = (service.scheduler, service.engine);
        if !self.loaded.contains(&needed) {
            self.room.load_for(service)?;
            self.loaded.push(needed);
        }
        Ok(())
    }

    /// One batch. A server may stand behind its service: should the service be refused its servers
    /// are too, and the first refusal is the one that is told.
    fn send(&mut self) -> Result<(), Error> {
        self.log.write().map_err(Error::UndoLog)?;
        let refusals = self.room.socket.send(&self.batch)?;
        let first = refusals.into_iter().min_by_key(|(position, _)| *position);
        if let Some((position, refusal)) = first {
            let (change, line) = &self.told[position];
            return Err(Error::refused(change, refusal).at_line(*line));
        }
        self.batch.clear();
        self.told.clear();
        Ok(())
    }
}
