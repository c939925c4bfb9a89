//! Sends a sequence of changes in batches.

use std::mem;
use std::num::NonZeroU32;

use patchbay_types::ipvs::{
    Change, Engine, RestoreProgress, Restored, Scheduler, Service, ServiceId, Step, Table,
};

use super::IpvsContext;
use super::error::Error;
use super::undo_log::UndoLog;
use crate::ipvs::Ipvs;
use patchbay_netlink::{Batch, Generic, KernelError, Transport as _};

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
    /// Services that the batch adds, with the positions of the requests.
    adds: Vec<(usize, ServiceId)>,
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
            ipvs: context.ipvs()?.family,
            context,
            from,
            log,
            batch: Batch::default(),
            steps: Vec::with_capacity(MAX_CHANGES),
            adds: Vec::new(),
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
        if let Change::AddService(service) = &change {
            self.adds.push((self.steps.len(), service.id));
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
        let adds = mem::take(&mut self.adds);
        self.log.added.extend(adds.iter().map(|(_, id)| *id));
        let errors = self.context.ipvs()?.socket.send(&self.batch)?;
        if let Some((position, error)) = errors.iter().min_by_key(|(position, _)| *position) {
            let (change, line) = &self.steps[*position];
            let error = Error::refused(change, error.clone()).at_line(*line);
            return Err(error.after_undo(self.disown(&adds, &errors)));
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

    /// Keeps services that the kernel refused to add out of the undo: if they exist, another program has
    /// added them. Deletes the servers that they got from the rest of the batch.
    fn disown(
        &mut self,
        adds: &[(usize, ServiceId)],
        errors: &[(usize, KernelError)],
    ) -> Result<(), Error> {
        let refused = refused(adds, errors);
        let strays = strays(&self.steps, &refused, errors);
        self.log.disown(&refused).map_err(Error::UndoLog)?;
        self.context.delete(&strays)
    }
}

fn refused(adds: &[(usize, ServiceId)], errors: &[(usize, KernelError)]) -> Vec<ServiceId> {
    let refused = adds.iter().filter(|(at, _)| is_refused(*at, errors));
    refused.map(|(_, id)| *id).collect()
}

/// Returns the deletions of servers that the kernel has added to refused services.
fn strays(steps: &[Step], refused: &[ServiceId], errors: &[(usize, KernelError)]) -> Vec<Change> {
    let stray = |(at, (change, _)): (usize, &Step)| match change {
        Change::AddServer(of, server) if refused.contains(of) && !is_refused(at, errors) => {
            Some(Change::DeleteServer(*of, server.id))
        }
        _ => None,
    };
    steps.iter().enumerate().filter_map(stray).collect()
}

fn is_refused(at: usize, errors: &[(usize, KernelError)]) -> bool {
    errors.iter().any(|(position, _)| *position == at)
}

#[cfg(test)]
mod tests {
    use patchbay_grammar::ipvsadm::{Grammar, read_rules};

    use super::*;

    #[test]
    fn refused_service_keeps_only_the_servers_of_its_program() {
        let lines = "-A -t 10.0.0.1:80 -s rr\n\
                     -a -t 10.0.0.1:80 -r 10.0.0.2:80\n\
                     -A -t 10.0.0.9:80 -s rr\n\
                     -a -t 10.0.0.9:80 -r 10.0.0.2:80\n\
                     -a -t 10.0.0.9:80 -r 10.0.0.3:80\n";
        let lines = read_rules(&Grammar::NUMERIC, lines).unwrap();
        let steps: Vec<Step> = lines.into_iter().map(|line| (line.change, None)).collect();
        let ids: Vec<ServiceId> = [0, 2].map(|at| steps[at].0.service().unwrap()).to_vec();
        let adds = [(0, ids[0]), (2, ids[1])];
        let error = |at| {
            let (errno, text) = (libc::EEXIST, None);
            (at, KernelError { errno, text })
        };
        // Another program has added the second service, with the server 10.0.0.2.
        let errors = [error(2), error(3)];
        assert_eq!(refused(&adds, &errors), ids[1..]);
        let Change::AddServer(of, stray) = steps[4].0 else {
            panic!("{steps:?}");
        };
        let deletions = strays(&steps, &ids[1..], &errors);
        assert_eq!(deletions, [Change::DeleteServer(of, stray.id)]);
        assert_eq!(refused(&adds, &[]), []);
    }
}
