//! Applies a rule file as a whole, or leaves the table unchanged.

use std::collections::HashSet;
use std::num::NonZeroU32;

use patchbay_codec::{Packed as _, Reader};
use patchbay_types::FieldError;
use patchbay_types::ipvs::{
    Change, Deferred, MaxRules, RestoreMode, Restored, RuleLine, Service, ServiceId, Setting, Table,
};

use super::batcher::{Batcher, Watch};
use super::error::Error;
use super::undo_log::{Undo, UndoLog};
use super::{IpvsContext, daemons, drain, settings};
use crate::cancellation::Cancellation;
use crate::ipvs;

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
    repeat_undo(context)?;
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
    with_undo_log(context, |context, log| {
        add_lines(context, file, log, control).map_err(|error| {
            let deletions = log.added.iter().map(|id| Change::DeleteService(*id));
            error.after_undo(context.delete(&deletions.collect::<Vec<_>>()))
        })
    })
}

/// Runs `work`, which applies changes or rolls them back, with an undo log. If the rollback fails, the next
/// operation repeats it.
pub(super) fn with_undo_log<T>(
    context: &mut IpvsContext,
    work: impl FnOnce(&mut IpvsContext, &mut UndoLog) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut log = context.undo_log.create().map_err(Error::UndoLog)?;
    let result = work(context, &mut log);
    context.undo_failed = log.undo_failed || matches!(result, Err(Error::NotUndone { .. }));
    if context.undo_failed {
        return result;
    }
    log.path().remove().map_err(Error::UndoLog)?;
    result
}

/// Applies the undo log of a killed agent, or of an operation whose undo failed. `None` if there is none.
pub(super) fn recover(context: &mut IpvsContext) -> Result<Option<Restored>, Error> {
    let undo = context.undo_log.read().map_err(Error::UndoLog)?;
    if undo.is_empty() {
        return Ok(None);
    }
    let mut settings = Ok(());
    for step in &undo {
        // Before the rules: while it is on, deleted servers end connections.
        if let Undo::Setting(setting) = step {
            settings = settings.and(settings::write(setting));
        }
    }
    let kept: Vec<Setting> = undo
        .iter()
        .filter_map(|step| match step {
            Undo::Setting(setting) => Some(*setting),
            _ => None,
        })
        .collect();
    let restored = undo_rules(context, undo)?;
    if let Err(failed) = settings {
        let log = context.undo_log.keep_settings(&kept);
        return Err(log.map_or_else(Error::UndoLog, |()| failed));
    }
    context.undo_log.remove().map_err(Error::UndoLog)?;
    Ok(Some(restored))
}

/// Restores rules, daemons and timeouts.
fn undo_rules(context: &mut IpvsContext, undo: Vec<Undo>) -> Result<Restored, Error> {
    let current = context.table()?;
    let (wanted, deferred) = undone(&current, undo)?;
    let (mut unlogged, free) = (UndoLog::default(), Control::default());
    let restored = apply_diff(context, &current, &wanted, &mut unlogged, free);
    let deferred = apply_deferred(context, &deferred, &mut UndoLog::default());
    let restored = restored?;
    deferred.map(|()| restored)
}

/// Repeats the undo of earlier operations that failed.
///
/// # Errors
/// If it fails again: an operation on rules that are half changed would make the log wrong.
pub(super) fn repeat_undo(context: &mut IpvsContext) -> Result<(), Error> {
    if context.undo_failed {
        recover(context)?;
        context.undo_failed = false;
    }
    drain::repeat_undo(context)
}

/// Applies the steps of an undo log to a table.
fn undone(current: &Table, undo: Vec<Undo>) -> Result<(Table, Deferred), Error> {
    let (mut wanted, mut deferred) = (current.clone(), Deferred::default());
    let disowned = undo.iter().filter_map(|step| match step {
        Undo::Disown(id) => Some(*id),
        _ => None,
    });
    let disowned: HashSet<ServiceId> = disowned.collect();
    for step in undo {
        match step {
            Undo::Change(Change::DeleteService(id)) if disowned.contains(&id) => {}
            // The service may not have been added yet.
            Undo::Change(change @ Change::DeleteService(_)) => {
                let _ = wanted.apply(change, None, &mut deferred);
            }
            Undo::Change(change) => wanted
                .apply(change, None, &mut deferred)
                .map_err(Error::Conflict)?,
            Undo::Setting(_) | Undo::Disown(_) => {}
        }
    }
    Ok((wanted, deferred))
}

/// Sends the lines of a file.
fn add_lines(
    context: &mut IpvsContext,
    file: &RuleFile,
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
            error.after_undo(current.and_then(|current| {
                let wanted = with_others(&before, &current, &log.added)?;
                apply_diff(context, &current, &wanted, &mut unlogged, free)
            }))
        })
    })
}

/// Returns the table `before` a change with the services that other programs have added since: those of
/// `current` that aren't among those that the change has `added`.
fn with_others(before: &Table, current: &Table, added: &[ServiceId]) -> Result<Table, Error> {
    let mut wanted = before.clone();
    let added: HashSet<&ServiceId> = added.iter().collect();
    for Service { id, .. } in current.services() {
        if before.recreate(*id).next().is_none() && !added.contains(id) {
            for change in current.recreate(*id) {
                let applied = wanted.apply(change, None, &mut Deferred::default());
                applied.map_err(Error::Conflict)?;
            }
        }
    }
    Ok(wanted)
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
        let timeouts = ipvs.family.status(&mut ipvs.socket)?.timeouts;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use patchbay_grammar::ipvsadm::{Grammar, read_rules};

    use super::*;
    use crate::ops::ipvs::IpvsOps;

    fn changes(words: &str) -> Vec<Change> {
        let lines = read_rules(&Grammar::NUMERIC, words).unwrap();
        lines.into_iter().map(|line| line.change).collect()
    }

    fn table(words: &str) -> Table {
        let mut table = Table::default();
        for change in changes(words) {
            table.apply(change, None, &mut Deferred::default()).unwrap();
        }
        table
    }

    fn id(words: &str) -> ServiceId {
        changes(words)[0].service().unwrap()
    }

    fn differs(from: &Table, to: &Table) -> bool {
        from.diff(to).next().is_some()
    }

    const OWN: &str = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80\n";
    const OTHER: &str = "-A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 10.0.0.2:80\n";

    #[test]
    fn log_of_failed_undo_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ops = IpvsOps::new(Some(path.clone()), Arc::default());
        let context = &mut ops.lock();
        let failed = || Error::NoRules.after_undo(Err::<(), _>(Error::NoIpvs));
        let error = with_undo_log(context, |_, _| Err::<(), _>(failed())).unwrap_err();
        assert_eq!(error.to_string(), Error::NoRules.to_string());
        assert!(path.exists() && context.undo_failed);
        // The log has no step.
        repeat_undo(context).unwrap();
        assert!(!context.undo_failed);
        let ended = with_undo_log(context, |_, log| {
            log.undo_failed = true;
            Err::<(), _>(Error::NoIpvs)
        });
        ended.unwrap_err();
        assert!(path.exists() && context.undo_failed);
        with_undo_log(context, |_, _| Err::<(), _>(Error::NoRules)).unwrap_err();
        assert!(!path.exists() && !context.undo_failed);
    }

    #[test]
    fn undone_keeps_service_that_the_kernel_refused() {
        let current = table(&format!("{OWN}{OTHER}"));
        let deletions = changes("-D -t 10.0.0.1:80\n-D -t 10.0.0.9:80\n-D -t 10.0.0.8:80");
        let mut undo: Vec<Undo> = deletions.into_iter().map(Undo::Change).collect();
        undo.push(Undo::Disown(id("-D -t 10.0.0.9:80")));
        let (wanted, _) = undone(&current, undo).unwrap();
        assert!(!differs(&wanted, &table(OTHER)));
    }

    #[test]
    fn rollback_keeps_services_of_other_programs() {
        let edited = "-A -t 10.0.0.1:80 -s wrr\n";
        let new = "-A -t 10.0.0.7:80 -s rr\n";
        let current = table(&format!("{edited}{OTHER}{new}"));
        let added = [id("-D -t 10.0.0.7:80")];
        let wanted = with_others(&table(OWN), &current, &added).unwrap();
        assert!(!differs(&wanted, &table(&format!("{OWN}{OTHER}"))));
    }
}
