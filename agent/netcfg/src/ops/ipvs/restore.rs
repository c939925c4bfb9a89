//! Rule files: all of it, or nothing.

use std::num::NonZeroU32;

use nix::errno::Errno;
use patchbay_codec::{Packed as _, Reader};
use patchbay_types::FieldError;
use patchbay_types::ipvs::{
    Change, Deferred, Line, MaxRules, RestoreMode, Restored, ServiceId, Table,
};

use super::Room;
use super::error::Error;
use super::sender::Sender;
use super::undo_log::UndoLog;
use crate::ipvs;
use patchbay_netlink::{Batch, KernelError, Transport as _};

/// A rule file as it came: packed lines, in pieces that each end with one.
pub type Pieces = Vec<Vec<u8>>;

/// Makes the table what the file and the mode say, or leaves it as it was.
pub(super) fn restore(
    room: &mut Room,
    file: &Pieces,
    mode: RestoreMode,
    max: MaxRules,
) -> Result<Restored, Error> {
    if file.iter().all(Vec::is_empty) {
        return Err(Error::NoRules);
    }
    match mode {
        RestoreMode::Empty => fill(room, file),
        RestoreMode::Replace => change(room, file, &|_| Table::default(), max),
        RestoreMode::Merge => change(room, file, &Table::clone, max),
    }
}

fn lines(file: &Pieces) -> impl Iterator<Item = Result<Line, FieldError>> {
    file.iter().flat_map(|piece| {
        let mut reader = Reader::new(piece);
        std::iter::from_fn(move || (!reader.is_empty()).then(|| Line::unpack(&mut reader)))
    })
}

/// Carries a file out line by line where there is nothing yet: the host has folded it already, so
/// what is wrong with it only the kernel can say.
fn fill(room: &mut Room, file: &Pieces) -> Result<Restored, Error> {
    room.ipvs()?;
    let rules = ipvs::count_rules().map_err(Error::Proc)?;
    if rules > 0 {
        return Err(Error::NotEmpty { rules });
    }
    let mut made = Vec::new();
    logged(room, |room, log| {
        let done = send(room, file, &mut made, log);
        done.map_err(|first| undone(first, remove(room, &made)))
    })
}

/// Carries something out, or undoes it, with a log of what leads back meanwhile.
fn logged(
    room: &mut Room,
    work: impl FnOnce(&mut Room, &mut UndoLog) -> Result<Restored, Error>,
) -> Result<Restored, Error> {
    let mut log = room.log.begin().map_err(Error::UndoLog)?;
    let done = work(room, &mut log);
    log.end().map_err(Error::UndoLog)?;
    done
}

/// Goes back from a file at which an agent was killed; says whether there was one.
pub(super) fn recover(room: &mut Room) -> Result<Option<Restored>, Error> {
    let back = room.log.left().map_err(Error::UndoLog)?;
    if back.is_empty() {
        return Ok(None);
    }
    let now = room.table()?;
    let mut wanted = now.clone();
    let mut afterwards = Deferred::default();
    for change in back {
        match change {
            // It may not have been made yet.
            Change::DeleteService(_) => drop(wanted.apply(change, None, &mut afterwards)),
            _ => wanted
                .apply(change, None, &mut afterwards)
                .map_err(Error::Conflict)?,
        }
    }
    let restored = walk(room, &now, &wanted, &mut UndoLog::default())?;
    finish(room, &afterwards, &mut UndoLog::default())?;
    room.log.forget().map_err(Error::UndoLog)?;
    Ok(Some(restored))
}

/// The services that it adds are noted, whether the kernel takes them or not.
fn send(
    room: &mut Room,
    file: &Pieces,
    made: &mut Vec<ServiceId>,
    log: &mut UndoLog,
) -> Result<Restored, Error> {
    let mut afterwards = Deferred::default();
    let nothing = Table::default();
    let mut sender = Sender::new(room, &nothing, log)?;
    for line in lines(file) {
        let Line { number, change } = line?;
        match change {
            // No rule: its turn comes when the table stands.
            Change::SetTimeouts(timeouts) => {
                afterwards.timeouts = Some(timeouts);
                continue;
            }
            Change::AddService(ref service) => made.push(service.id),
            _ => {}
        }
        sender.push(change, NonZeroU32::new(number))?;
    }
    let restored = sender.finish()?;
    finish(room, &afterwards, log)?;
    // At most: what the file itself takes back is counted too.
    room.rules
        .know(restored.added.try_into().unwrap_or(usize::MAX));
    Ok(restored)
}

/// Deletes the services that are there of these.
fn remove(room: &mut Room, made: &[ServiceId]) -> Result<(), Error> {
    let ipvs = room.ipvs()?;
    let mut batch = Batch::default();
    for id in made {
        ipvs.push(&mut batch, &Change::DeleteService(*id));
    }
    let refusals = room.socket.send(&batch)?;
    let other = |(_, refusal): &(usize, KernelError)| !refusal.is(Errno::ESRCH);
    match refusals.into_iter().find(other) {
        None => Ok(()),
        Some((position, refusal)) => {
            let change = Change::DeleteService(made[position]);
            Err(Error::refused(&change, refusal))
        }
    }
}

/// Carries out the difference between what there is and what the file makes of `base`'s table.
fn change(
    room: &mut Room,
    file: &Pieces,
    base: &dyn Fn(&Table) -> Table,
    max: MaxRules,
) -> Result<Restored, Error> {
    let before = room.table()?;
    let mut wanted = base(&before);
    let mut afterwards = Deferred::default();
    for line in lines(file) {
        let Line { number, change } = line?;
        let line = NonZeroU32::new(number);
        let applied = wanted.apply(change, line, &mut afterwards);
        applied.map_err(|clash| Error::Conflict(clash).at_line(line))?;
    }
    max.check(wanted.rules())?;
    logged(room, |room, log| {
        let done = walk(room, &before, &wanted, log).and_then(|restored| {
            finish(room, &afterwards, log)?;
            room.rules.know(wanted.rules());
            Ok(restored)
        });
        done.map_err(|first| {
            let now = room.table();
            let back = |now| walk(room, &now, &before, &mut UndoLog::default());
            undone(first, now.and_then(back))
        })
    })
}

/// Carries out what leads from one table to the other, up to the first refusal.
fn walk(room: &mut Room, from: &Table, to: &Table, log: &mut UndoLog) -> Result<Restored, Error> {
    let mut sender = Sender::new(room, from, log)?;
    for (change, line) in from.diff(to) {
        sender.push(change, line)?;
    }
    sender.finish()
}

/// Counters and timeouts, which nothing refuses once the table stands.
fn finish(room: &mut Room, afterwards: &Deferred, log: &mut UndoLog) -> Result<(), Error> {
    if afterwards.timeouts.is_some() {
        let ipvs = room.ipvs()?;
        let timeouts = ipvs.status(&mut room.socket)?.timeouts;
        log.push(&Change::SetTimeouts(timeouts));
    }
    let timeouts = afterwards.timeouts.map(Change::SetTimeouts);
    let zero = afterwards.zero.iter().map(|id| Change::Zero(*id));
    let nothing = Table::default();
    let mut sender = Sender::new(room, &nothing, log)?;
    for change in zero.chain(timeouts) {
        sender.push(change, None)?;
    }
    sender.finish().map(|_| ())
}

/// Why a request failed, and whether undoing it did too.
fn undone<T>(first: Error, undo: Result<T, Error>) -> Error {
    match undo {
        Ok(_) => first,
        Err(undo) => Error::NotUndone {
            first: Box::new(first),
            undo: Box::new(undo),
        },
    }
}
