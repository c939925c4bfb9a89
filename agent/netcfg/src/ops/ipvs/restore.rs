//! Applies a rule file as a whole, or leaves the table unchanged.

use std::num::NonZeroU32;

use nix::errno::Errno;
use patchbay_codec::{Packed as _, Reader};
use patchbay_types::FieldError;
use patchbay_types::ipvs::{
    Change, Deferred, MaxRules, RestoreMode, Restored, RuleLine, ServiceId, Table,
};

use super::batcher::{Batcher, Watch};
use super::error::Error;
use super::undo_log::{Undo, UndoLog};
use super::{IpvsContext, daemons, settings};
use crate::cancellation::Cancellation;
use crate::ipvs;
use patchbay_netlink::{Batch, KernelError, Transport as _};

/// Influence of the host on a restore, and its sight of it.
#[derive(Default)]
pub(super) struct Control<'a> {
    pub(super) cancellation: Cancellation,
    pub(super) watch: Watch<'a>,
}

/// Rule file as received: packed lines in pieces, each of which ends with a whole line.
pub type RuleFile = Vec<Vec<u8>>;

/// Applies a rule file in the given mode, or leaves the table unchanged.
pub(super) fn restore(
    context: &mut IpvsContext,
    file: &RuleFile,
    mode: RestoreMode,
    max: MaxRules,
    control: Control<'_>,
) -> Result<Restored, Error> {
    if file.iter().all(Vec::is_empty) {
        return Err(Error::NoRules);
    }
    match mode {
        RestoreMode::Empty => fill(context, file, control),
        RestoreMode::Replace => change(context, file, &|_| Table::default(), max, control),
        RestoreMode::Merge => change(context, file, &Table::clone, max, control),
    }
}

fn lines(file: &RuleFile) -> impl Iterator<Item = Result<RuleLine, FieldError>> {
    file.iter().flat_map(|piece| {
        let mut reader = Reader::new(piece);
        std::iter::from_fn(move || (!reader.is_empty()).then(|| RuleLine::unpack(&mut reader)))
    })
}

/// Applies a file line by line to an empty table. The host has checked the lines against each other, so
/// the remaining errors are the kernel's.
fn fill(
    context: &mut IpvsContext,
    file: &RuleFile,
    control: Control<'_>,
) -> Result<Restored, Error> {
    context.ipvs()?;
    let rules = ipvs::count_rules().map_err(Error::Proc)?;
    if rules > 0 {
        return Err(Error::NotEmpty(rules));
    }
    let mut added = Vec::new();
    with_undo_log(context, |context, log| {
        let result = add_lines(context, file, &mut added, log, control);
        result.map_err(|error| error.after_undo(delete_services(context, &added)))
    })
}

/// Runs `work`, which applies changes or rolls them back, with an undo log.
pub(super) fn with_undo_log<T>(
    context: &mut IpvsContext,
    work: impl FnOnce(&mut IpvsContext, &mut UndoLog) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut log = context.undo_log.create().map_err(Error::UndoLog)?;
    let result = work(context, &mut log);
    log.remove().map_err(Error::UndoLog)?;
    result
}

/// Applies the undo log of a killed agent. `None` if there is none.
pub(super) fn recover(context: &mut IpvsContext) -> Result<Option<Restored>, Error> {
    let undo = context.undo_log.read().map_err(Error::UndoLog)?;
    if undo.is_empty() {
        return Ok(None);
    }
    let current = context.table()?;
    let mut wanted = current.clone();
    let mut deferred = Deferred::default();
    for step in undo {
        match step {
            // Before the rules: while it is on, deleted servers end connections.
            Undo::Setting(setting) => settings::write(&setting)?,
            // The service may not have been added yet.
            Undo::Change(change @ Change::DeleteService(_)) => {
                let _ = wanted.apply(change, None, &mut deferred);
            }
            Undo::Change(change) => wanted
                .apply(change, None, &mut deferred)
                .map_err(Error::Conflict)?,
        }
    }
    let (mut unlogged, free) = (UndoLog::default(), Control::default());
    let restored = apply_diff(context, &current, &wanted, &mut unlogged, free)?;
    apply_deferred(context, &deferred, &mut UndoLog::default())?;
    context.undo_log.remove().map_err(Error::UndoLog)?;
    Ok(Some(restored))
}

/// Sends the lines of a file. Collects the services that it adds in `added`, for the rollback.
fn add_lines(
    context: &mut IpvsContext,
    file: &RuleFile,
    added: &mut Vec<ServiceId>,
    log: &mut UndoLog,
    control: Control<'_>,
) -> Result<Restored, Error> {
    let mut deferred = Deferred::default();
    let empty = Table::default();
    let batcher = Batcher::new(context, &empty, log)?;
    let mut batcher = batcher.watched(control.watch, || lines(file).count());
    for line in lines(file) {
        let RuleLine { number, change } = line?;
        let line = NonZeroU32::new(number);
        match change {
            Change::SetTimeouts(timeouts) => {
                deferred.timeouts = Some(timeouts.after(deferred.timeouts));
                continue;
            }
            Change::StartDaemon(daemon) => {
                deferred.daemons.insert(daemon.role, (Some(daemon), line));
                continue;
            }
            Change::StopDaemon(role) => {
                deferred.daemons.insert(role, (None, line));
                continue;
            }
            Change::AddService(ref service) => added.push(service.id),
            _ => {}
        }
        control.cancellation.check()?;
        batcher.push(change, line)?;
    }
    let restored = batcher.finish()?;
    apply_deferred(context, &deferred, log)?;
    // An upper bound: the file can delete rules that it adds.
    let count = restored.added.try_into().unwrap_or(usize::MAX);
    context.rule_count.set(count);
    Ok(restored)
}

/// Deletes those of the services that exist.
fn delete_services(context: &mut IpvsContext, services: &[ServiceId]) -> Result<(), Error> {
    let ipvs = context.ipvs()?;
    let mut batch = Batch::default();
    for id in services {
        ipvs.push(&mut batch, &Change::DeleteService(*id));
    }
    let mut errors = context.socket.send(&batch)?.into_iter();
    let unexpected = |(_, error): &(usize, KernelError)| !error.is(Errno::ESRCH);
    match errors.find(unexpected) {
        None => Ok(()),
        Some((position, error)) => {
            let change = Change::DeleteService(services[position]);
            Err(Error::refused(&change, error))
        }
    }
}

/// Applies the file to the table that `base` derives from the current one, and sends the difference.
fn change(
    context: &mut IpvsContext,
    file: &RuleFile,
    base: &dyn Fn(&Table) -> Table,
    max: MaxRules,
    control: Control<'_>,
) -> Result<Restored, Error> {
    let before = context.table()?;
    let mut wanted = base(&before);
    let mut deferred = Deferred::default();
    for line in lines(file) {
        let RuleLine { number, change } = line?;
        let line = NonZeroU32::new(number);
        let applied = wanted.apply(change, line, &mut deferred);
        applied.map_err(|conflict| Error::Conflict(conflict).at_line(line))?;
    }
    max.check(wanted.rules())?;
    with_undo_log(context, |context, log| {
        let result = apply_diff(context, &before, &wanted, log, control);
        let result = result.and_then(|restored| {
            apply_deferred(context, &deferred, log)?;
            context.rule_count.set(wanted.rules());
            Ok(restored)
        });
        result.map_err(|error| {
            let current = context.table();
            let (mut unlogged, free) = (UndoLog::default(), Control::default());
            error.after_undo(
                current.and_then(|current| {
                    apply_diff(context, &current, &before, &mut unlogged, free)
                }),
            )
        })
    })
}

/// Sends the difference between two tables, up to the first error.
pub(super) fn apply_diff(
    context: &mut IpvsContext,
    from: &Table,
    to: &Table,
    log: &mut UndoLog,
    control: Control<'_>,
) -> Result<Restored, Error> {
    let batcher = Batcher::new(context, from, log)?;
    let mut batcher = batcher.watched(control.watch, || from.diff(to).count());
    for (change, line) in from.diff(to) {
        control.cancellation.check()?;
        batcher.push(change, line)?;
    }
    batcher.finish()
}

/// Starts and stops sync daemons, zeroes counters and sets timeouts. The kernel refuses none of the last
/// two, so these come last.
fn apply_deferred(
    context: &mut IpvsContext,
    deferred: &Deferred,
    log: &mut UndoLog,
) -> Result<(), Error> {
    daemons::apply(context, &deferred.daemons, log)?;
    if deferred.timeouts.is_some() {
        let ipvs = context.ipvs()?;
        let timeouts = ipvs.status(&mut context.socket)?.timeouts;
        log.push(&Change::SetTimeouts(timeouts));
    }
    let timeouts = deferred.timeouts.map(Change::SetTimeouts);
    let zero = deferred.zero.iter().map(|id| Change::Zero(*id));
    let empty = Table::default();
    let mut batcher = Batcher::new(context, &empty, log)?;
    for change in zero.chain(timeouts) {
        batcher.push(change, None)?;
    }
    batcher.finish().map(drop)
}
