//! Drains servers: sets their weights to 0, waits until none of their connections is active, and ends the
//! others.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_types::ipvs::{
    Change, Deferred, Detail, DrainProgress, NonNegativeInt, Server, ServerFilter, ServiceId, Table,
};

use super::end;
use super::error::Error;
use super::restore::{Control, apply_diff};
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
    let (servers, log) = begin(&mut ops.lock(), filters)?;
    let ended = wait_until_idle(ops, &servers, wait.min(MAX_WAIT), progress)
        .and_then(|()| end::end(&mut ops.lock(), filters));
    let result = ended.map_err(|error| {
        let undone = restore_weights(&mut ops.lock(), &servers);
        error.after_undo(undone)
    });
    log.remove().map_err(Error::UndoLog)?;
    result
}

/// Sets the weights to 0. Returns the servers as they were.
fn begin(
    context: &mut IpvsContext,
    filters: &[ServerFilter],
) -> Result<(Vec<(ServiceId, Server)>, UndoLog), Error> {
    let before = context.table()?;
    let servers = end::servers_of(&before, filters);
    if let (true, Some(filter)) = (servers.is_empty(), filters.first()) {
        return Err(Error::NoServer(filter.server));
    }
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
    if let Err(error) = zeroed {
        let error = error.after_undo(restore_weights(context, &servers));
        log.remove().map_err(Error::UndoLog)?;
        return Err(error);
    }
    Ok((servers, log))
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

/// Restores the weights of drains that a killed agent began. Returns whether there were any.
pub(super) fn recover(context: &mut IpvsContext) -> Result<bool, Error> {
    let mut found = false;
    let logs: Vec<UndoLogPath> = context.undo_log.drains().collect();
    for log in logs {
        let steps = log.read().map_err(Error::UndoLog)?;
        let server = |step| match step {
            Undo::Change(Change::EditServer(of, server)) => Some((of, server)),
            _ => None,
        };
        let servers: Vec<_> = steps.into_iter().filter_map(server).collect();
        if !servers.is_empty() {
            restore_weights(context, &servers)?;
            found = true;
        }
        log.remove().map_err(Error::UndoLog)?;
    }
    Ok(found)
}
