//! Sync daemons that a rule file starts and stops.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use patchbay_types::ipvs::{Change, Daemon, Role};

use super::IpvsContext;
use super::error::Error;
use super::undo_log::UndoLog;

/// Wanted daemon of each role, `None` if it is to be stopped, with the line of the file.
pub(super) type Daemons = BTreeMap<Role, (Option<Daemon>, Option<NonZeroU32>)>;

/// Starts and stops the daemons, or leaves them as they were. A daemon that runs as wanted is kept.
pub(super) fn apply(
    context: &mut IpvsContext,
    daemons: &Daemons,
    log: &mut UndoLog,
) -> Result<(), Error> {
    if daemons.is_empty() {
        return Ok(());
    }
    let ipvs = context.ipvs()?;
    let running = ipvs.status(&mut context.socket)?.daemons;
    let before = |role| running.iter().find(|daemon| daemon.role == role);
    for (role, (wanted, line)) in daemons {
        let old = before(*role);
        let undo = old.cloned().map(Change::StartDaemon);
        log.push(&undo.unwrap_or(Change::StopDaemon(*role)));
        log.write().map_err(Error::UndoLog)?;
        if let Err(error) = replace(context, *role, old, wanted.as_ref()) {
            let former = |role: &Role| (*role, (before(*role).cloned(), None));
            let former = daemons.keys().map(former).collect();
            let undone = apply(context, &former, &mut UndoLog::default());
            return Err(error.at_line(*line).after_undo(undone));
        }
    }
    Ok(())
}

fn replace(
    context: &mut IpvsContext,
    role: Role,
    old: Option<&Daemon>,
    wanted: Option<&Daemon>,
) -> Result<(), Error> {
    match (old, wanted) {
        (None, None) => return Ok(()),
        (Some(old), Some(wanted)) if wanted.is_met_by(old) => return Ok(()),
        (Some(_), _) => context.send(&Change::StopDaemon(role))?,
        (None, Some(_)) => {}
    }
    match wanted {
        Some(wanted) => context.send(&Change::StartDaemon(wanted.clone())),
        None => Ok(()),
    }
}
