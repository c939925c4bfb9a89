//! Sends a sequence of changes in batches.

use std::num::NonZeroU32;

use patchbay_types::ipvs::{
    Change, Engine, RestoreProgress, Restored, Scheduler, Service, Step, Table,
};

use super::IpvsContext;
use super::error::Error;
use super::undo_log::UndoLog;
use crate::ipvs::Ipvs;
use patchbay_netlink::{Batch, Generic, Transport as _};

/// Maximum number of changes per batch: the kernel applies the rest of a batch after an error.
const MAX_CHANGES: usize = 512;

/// Receiver of the progress; without one the changes are not counted beforehand.
pub type Watch<'a> = Option<&'a mut dyn FnMut(RestoreProgress)>;

/// The kernel's name for a service without a scheduler.
pub(super) const NO_SCHEDULER: &str = "none";
/// This scheduler rebuilds its table for every server that is added or removed.
const TABLE_SCHEDULER: &str = "mh";

/// Applies changes in order, up to the first error. Call [`Batcher::finish`] to send the last batch.
pub(super) struct Batcher<'a, 'w> {
    context: &'a mut IpvsContext,
    /// Table before the changes, from which the undo log is written.
    from: &'a Table,
    log: &'a mut UndoLog,
    ipvs: Ipvs,
    batch: Batch<Generic>,
    /// Change of each request in the batch, for errors.
    steps: Vec<Step>,
    /// Service that gets its scheduler after its servers.
    unscheduled: Option<(Service, Option<NonZeroU32>)>,
    /// Schedulers and persistence engines whose modules are loaded.
    loaded: Vec<(Scheduler, Option<Engine>)>,
    none: Option<Scheduler>,
    restored: Restored,
    watch: Watch<'w>,
    progress: RestoreProgress,
}

impl<'a, 'w> Batcher<'a, 'w> {
    pub(super) fn new(
        context: &'a mut IpvsContext,
        from: &'a Table,
        log: &'a mut UndoLog,
    ) -> Result<Self, Error> {
        Ok(Self {
            ipvs: context.ipvs()?,
            context,
            from,
            log,
            batch: Batch::default(),
            steps: Vec::with_capacity(MAX_CHANGES),
            unscheduled: None,
            loaded: Vec::new(),
            none: NO_SCHEDULER.parse().ok(),
            restored: Restored::default(),
            watch: None,
            progress: RestoreProgress { done: 0, total: 0 },
        })
    }

    /// Reports the progress of so many changes.
    pub(super) fn watched(mut self, watch: Watch<'w>, total: impl FnOnce() -> usize) -> Self {
        if watch.is_some() {
            self.progress.total = u32::try_from(total()).unwrap_or(u32::MAX);
        }
        Self { watch, ..self }
    }

    /// Adds a change, and sends the batch when it is full.
    pub(super) fn push(&mut self, change: Change, line: Option<NonZeroU32>) -> Result<(), Error> {
        if !matches!(change, Change::AddServer(..)) {
            self.set_scheduler();
        }
        self.log.record(self.from, &change);
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
            (Change::AddService(service), Some(none))
                if service.scheduler.as_str() == TABLE_SCHEDULER =>
            {
                let unscheduled = Service {
                    scheduler: none,
                    ..service.clone()
                };
                let add = Change::AddService(unscheduled);
                self.ipvs.push(&mut self.batch, &add);
                self.unscheduled = Some((service.clone(), line));
            }
            _ => self.ipvs.push(&mut self.batch, &change),
        }
        self.steps.push((change, line));
        if self.steps.len() >= MAX_CHANGES {
            return self.send();
        }
        Ok(())
    }

    /// Sends the last batch, and returns the number of changes.
    pub(super) fn finish(mut self) -> Result<Restored, Error> {
        self.set_scheduler();
        self.send()?;
        Ok(self.restored)
    }

    /// Sets the scheduler of the last service, which then builds its table once for all servers.
    fn set_scheduler(&mut self) {
        if let Some((service, line)) = self.unscheduled.take() {
            let change = Change::EditService(service.clone());
            self.ipvs.push(&mut self.batch, &change);
            self.steps.push((Change::AddService(service), line));
        }
    }

    fn load_for(&mut self, service: &Service) -> Result<(), Error> {
        let needed = (service.scheduler, service.engine);
        if !self.loaded.contains(&needed) {
            self.context.load_for(service)?;
            self.loaded.push(needed);
        }
        Ok(())
    }

    /// Sends the batch and returns its first error: if the kernel refuses a service it also refuses
    /// the service's servers.
    fn send(&mut self) -> Result<(), Error> {
        self.log.write().map_err(Error::UndoLog)?;
        let errors = self.context.socket.send(&self.batch)?;
        let first = errors.into_iter().min_by_key(|(position, _)| *position);
        if let Some((position, error)) = first {
            let (change, line) = &self.steps[position];
            return Err(Error::refused(change, error).at_line(*line));
        }
        if let Some(watch) = &mut self.watch
            && !self.steps.is_empty()
        {
            let RestoreProgress { done, total } = &mut self.progress;
            // One service can have two steps.
            *done = done
                .saturating_add(u32::try_from(self.steps.len()).unwrap_or(u32::MAX))
                .min(*total);
            watch(self.progress);
        }
        self.batch.clear();
        self.steps.clear();
        Ok(())
    }
}
