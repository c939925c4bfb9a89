//! Drains servers: sets their weights to 0, waits until none of their connections is active, and ends the
//! others.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::ipvs::{
    Change, Deferred, Detail, DrainProgress, NonNegativeInt, Server, ServerFilter, ServerId,
    ServiceId, Table,
};

use super::end;
use super::error::Error;
use super::restore::{self, Control, apply_diff};
use super::undo_log::{Undo, UndoLog, UndoLogPath};
use super::{IpvsContext, IpvsOps};

/// Interval of progress. IPVS announces no end of a connection.
const INTERVAL: Duration = Duration::from_millis(250);
/// Maximum time that a drain waits, whatever the host requests.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Drains servers, and returns the number of connections that were left and ended. `progress` breaks when
/// the host has disconnected. After an error the weights are as they were.
pub(super) fn drain(
    ops: &IpvsOps,
    filters: &[ServerFilter],
    wait: Duration,
    progress: &mut dyn FnMut(DrainProgress) -> ControlFlow<()>,
) -> Result<usize, Error> {
    let (drained, _running) = begin(ops, &mut ops.lock(), filters)?;
    let ended = wait_until_idle(ops, &drained.servers, wait.min(MAX_WAIT), progress)
        .and_then(|()| end::end(&mut ops.lock(), filters));
    match ended {
        Ok(ended) => drained.log.remove().map(|()| ended).map_err(Error::UndoLog),
        Err(error) => {
            let undone = drained.undo(&mut ops.lock());
            Err(error.after_undo(undone))
        }
    }
}

/// Drain from its first change to its end, also by a panic. Another drain of its servers would take the weight
/// 0 for theirs, and get the former one back under it.
struct Running<'a> {
    ops: &'a IpvsOps,
    servers: Vec<(ServiceId, ServerId)>,
}

impl<'a> Running<'a> {
    fn new(
        ops: &'a IpvsOps,
        draining: &mut Vec<(ServiceId, ServerId)>,
        servers: &[(ServiceId, Server)],
    ) -> Self {
        let servers = servers.iter().map(|(of, server)| (*of, server.id));
        let servers: Vec<_> = servers.collect();
        draining.extend(&servers);
        Self { ops, servers }
    }
}

/// Checks that no other drain has one of the servers.
fn check(draining: &[(ServiceId, ServerId)], servers: &[(ServiceId, Server)]) -> Result<(), Error> {
    let mut ids = servers.iter().map(|(of, server)| (*of, server.id));
    match ids.find(|id| draining.contains(id)) {
        Some((of, server)) => Err(Error::Draining(of, server)),
        None => Ok(()),
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let draining = &mut self.ops.lock().draining;
        draining.retain(|id| !self.servers.contains(id));
    }
}

/// Servers as they were before their drain, with its log.
#[derive(Debug)]
pub(super) struct Drained {
    servers: Vec<(ServiceId, Server)>,
    log: UndoLogPath,
}

impl Drained {
    /// Restores the weights. If that fails, the next operation repeats it, or the next agent.
    fn undo(self, context: &mut IpvsContext) -> Result<(), Error> {
        let restored = restore_weights(context, &self.servers);
        // Servers that are still to be added again get the weight 0 from the undo log.
        if restored.is_err() || context.undo_failed {
            context.undrained.push(self);
            return restored;
        }
        self.log.remove().map_err(Error::UndoLog)
    }
}

/// Repeats the undo of drains for which it failed.
pub(super) fn repeat_undo(context: &mut IpvsContext) -> Result<(), Error> {
    while let Some(drained) = context.undrained.pop() {
        drained.undo(context)?;
    }
    Ok(())
}

/// Sets the weights to 0.
fn begin<'a>(
    ops: &'a IpvsOps,
    context: &mut IpvsContext,
    filters: &[ServerFilter],
) -> Result<(Drained, Running<'a>), Error> {
    restore::repeat_undo(context)?;
    let before = context.table()?;
    let servers = end::servers_of(&before, filters);
    if let (true, Some(filter)) = (servers.is_empty(), filters.first()) {
        return Err(Error::NoServer(filter.server));
    }
    check(&context.draining, &servers)?;
    end::check(&before, filters)?;
    let log = context.undo_log.create_drain().map_err(Error::UndoLog)?;
    let mut log = log.ok_or(Error::ManyDrains)?;
    for (of, server) in &servers {
        log.push(&Change::EditServer(*of, *server));
    }
    let zero = NonNegativeInt::default();
    let zeroed = log
        .write()
        .map_err(Error::UndoLog)
        .and_then(|()| set_weights(context, &before, &servers, |_| zero));
    let drained = Drained {
        servers,
        log: log.path(),
    };
    if let Err(error) = zeroed {
        return Err(error.after_undo(drained.undo(context)));
    }
    let running = Running::new(ops, &mut context.draining, &drained.servers);
    Ok((drained, running))
}

fn wait_until_idle(
    ops: &IpvsOps,
    servers: &[(ServiceId, Server)],
    wait: Duration,
    progress: &mut dyn FnMut(DrainProgress) -> ControlFlow<()>,
) -> Result<(), Error> {
    let deadline = Instant::now() + wait;
    loop {
        let state = state(&mut ops.lock(), servers)?;
        if progress(state).is_break() {
            return Err(Error::Disconnected);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if state.active == 0 || left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(INTERVAL));
    }
}

/// Counts the connections of the servers, which are in the order of their services.
fn state(
    context: &mut IpvsContext,
    servers: &[(ServiceId, Server)],
) -> Result<DrainProgress, Error> {
    let mut state = DrainProgress::default();
    for group in servers.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((of, _)) = group.first() else {
            continue;
        };
        let has = |id| group.iter().any(|(_, server)| server.id == id);
        for listed in context.servers(*of, Detail::Rules)? {
            if has(listed.server.id) {
                state.active = state.active.saturating_add(listed.active);
                state.inactive = state.inactive.saturating_add(listed.inactive);
            }
        }
    }
    Ok(state)
}

/// Restores the weights of servers that still have the weight 0.
fn restore_weights(
    context: &mut IpvsContext,
    servers: &[(ServiceId, Server)],
) -> Result<(), Error> {
    let current = context.table()?;
    let is_zero = |of, server: &Server| {
        let now = current.server(of, server.id);
        now.is_some_and(|now| now.weight.get() == 0)
    };
    let zero = servers.iter().filter(|(of, server)| is_zero(*of, server));
    let zero: Vec<_> = zero.copied().collect();
    set_weights(context, &current, &zero, |server| server.weight)
}

/// Sets the weights of servers that `current` has; their other options stay.
fn set_weights(
    context: &mut IpvsContext,
    current: &Table,
    servers: &[(ServiceId, Server)],
    weight: impl Fn(&Server) -> NonNegativeInt,
) -> Result<(), Error> {
    let mut wanted = current.clone();
    for (of, server) in servers {
        let now = current.server(*of, server.id).unwrap_or(server);
        let edit = Server {
            weight: weight(server),
            ..*now
        };
        let change = Change::EditServer(*of, edit);
        let applied = wanted.apply(change, None, &mut Deferred::default());
        applied.map_err(Error::Conflict)?;
    }
    let (mut unlogged, free) = (UndoLog::default(), Control::default());
    apply_diff(context, current, &wanted, &mut unlogged, free).map(drop)
}

/// Restores the weights of drains that a killed agent began, of each even if another one fails. Returns
/// whether there were any.
pub(super) fn recover(context: &mut IpvsContext) -> Result<bool, Error> {
    let logs: Vec<UndoLogPath> = context.undo_log.drains().collect();
    let mut result = Ok(false);
    for log in logs {
        let found = recover_one(context, &log);
        result = result.and_then(|earlier| Ok(earlier | found?));
    }
    result
}

fn recover_one(context: &mut IpvsContext, log: &UndoLogPath) -> Result<bool, Error> {
    let steps = log.read().map_err(Error::UndoLog)?;
    let server = |step| match step {
        Undo::Change(Change::EditServer(of, server)) => Some((of, server)),
        _ => None,
    };
    let servers: Vec<_> = steps.into_iter().filter_map(server).collect();
    if servers.is_empty() {
        return log.remove().map(|()| false).map_err(Error::UndoLog);
    }
    let log = log.clone();
    Drained { servers, log }.undo(context).map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use patchbay_types::failure::{Failure, Kind};
    use patchbay_types::ipvs::{Family, Forward};

    use super::*;

    fn logs(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn drain_of_drained_server_is_refused() {
        let ops = IpvsOps::new(None, Arc::default());
        let server = |last| ServerId {
            address: [10, 0, 0, last].into(),
            port: 80,
        };
        let of = ServiceId::Mark {
            mark: NonZeroU32::MIN,
            family: Family::V4,
        };
        let servers = |last: &[u8]| -> Vec<(ServiceId, Server)> {
            let servers = last
                .iter()
                .map(|last| Server::new(server(*last), Forward::Masquerade));
            servers.map(|server| (of, server)).collect()
        };
        let start = |last: &[u8]| Running::new(&ops, &mut ops.lock().draining, &servers(last));
        let check = |last: &[u8]| check(&ops.lock().draining, &servers(last));
        let (first, other) = (start(&[1, 2]), start(&[3]));
        let error = check(&[4, 2]).unwrap_err();
        let message = "the server 10.0.0.2:80 of -f 1 is being drained: \
                       repeat it when that drain has ended";
        assert_eq!(error.to_string(), message);
        assert_eq!(Failure::from(error).kind(), Kind::NotYet);
        drop(first);
        check(&[4, 2]).unwrap();
        check(&[3]).unwrap_err();
        drop(other);
        check(&[3]).unwrap();
    }

    #[test]
    fn undo_that_is_incomplete_keeps_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let ops = IpvsOps::new(Some(path), Arc::default());
        let context = &mut ops.lock();
        let log = context.undo_log.create_drain().unwrap().unwrap();
        let servers = Vec::new();
        context.undo_failed = true;
        // Without IPVS, the table can't be read either.
        let log = log.path();
        let _ = Drained { servers, log }.undo(context);
        assert_eq!((context.undrained.len(), logs(&folder)), (1, 1));
    }
}
