//! Rule files: all of it, or nothing.

use std::num::NonZeroU32;

use patchbay_protocols::ipvs::{Change, Line, RestoreMode, Restored};

use super::error::Error;
use super::table::{Afterwards, Step, Table};
use super::{Room, Rules};
use crate::netlink::{Batch, Generic, Kernel as _};

/// Most changes in one batch: what is encoded at once, and where it stops after a refusal.
const BATCH: usize = 512;

/// Makes the table what the file and the mode say, or leaves it as it was.
pub(super) fn restore(
    room: &mut Room,
    lines: Vec<Vec<Line>>,
    mode: RestoreMode,
    limit: Rules,
) -> Result<Restored, Error> {
    if lines.iter().all(Vec::is_empty) {
        return Err(Error::NoRules);
    }
    let before = room.table()?;
    if mode == RestoreMode::Empty && before.rules() > 0 {
        let rules = before.rules();
        return Err(Error::NotEmpty { rules });
    }
    let mut wanted = match mode {
        RestoreMode::Merge => before.clone(),
        RestoreMode::Empty | RestoreMode::Replace => Table::default(),
    };
    let mut afterwards = Afterwards::default();
    for Line { number, change } in lines.into_iter().flatten() {
        let line = NonZeroU32::new(number);
        let applied = wanted.apply(change, line, &mut afterwards);
        applied.map_err(|clash| Error::Clash(clash).at(line))?;
    }
    limit.check(wanted.rules())?;
    room.load_for(wanted.services())?;
    let done = walk(room, &before, &wanted).and_then(|restored| {
        finish(room, &afterwards)?;
        Ok(restored)
    });
    done.map_err(|first| undo(room, &before, first))
}

/// Carries out what leads from one table to the other, up to the first refusal.
fn walk(room: &mut Room, from: &Table, to: &Table) -> Result<Restored, Error> {
    let mut restored = Restored::default();
    let mut steps = from.steps_to(to);
    let mut batch_steps: Vec<Step> = Vec::with_capacity(BATCH);
    loop {
        batch_steps.clear();
        batch_steps.extend(steps.by_ref().take(BATCH));
        if batch_steps.is_empty() {
            return Ok(restored);
        }
        commit(room, &batch_steps)?;
        for (change, _) in &batch_steps {
            match change {
                Change::AddService(_) | Change::AddServer(..) => restored.added += 1,
                Change::EditService(_) | Change::EditServer(..) => restored.edited += 1,
                _ => restored.deleted += 1,
            }
        }
    }
}

/// One batch. A server may stand behind its service: should the service be refused its servers are
/// too, the first refusal is the one that is told, and everything is undone anyway.
fn commit(room: &mut Room, steps: &[Step]) -> Result<(), Error> {
    let ipvs = room.ipvs()?;
    let mut batch = Batch::<Generic>::default();
    for (change, _) in steps {
        ipvs.push(&mut batch, change);
    }
    match room
        .socket
        .commit(&batch)?
        .into_iter()
        .min_by_key(|(position, _)| *position)
    {
        None => Ok(()),
        Some((position, refusal)) => {
            let (change, line) = &steps[position];
            Err(Error::refused(change, refusal).at(*line))
        }
    }
}

/// Timeouts and counters, which nothing refuses once the table stands.
fn finish(room: &mut Room, afterwards: &Afterwards) -> Result<(), Error> {
    let timeouts = afterwards.timeouts.map(Change::SetTimeouts);
    let zero = afterwards.zero.iter().map(|id| Change::Zero(*id));
    let steps: Vec<Step> = zero.chain(timeouts).map(|change| (change, None)).collect();
    if steps.is_empty() {
        return Ok(());
    }
    commit(room, &steps)
}

/// Back from whatever the kernel has by now to what it had.
fn undo(room: &mut Room, before: &Table, first: Error) -> Error {
    let undone = room.table().and_then(|now| walk(room, &now, before));
    match undone {
        Ok(_) => first,
        Err(undo) => Error::NotUndone {
            first: Box::new(first),
            undo: Box::new(undo),
        },
    }
}
