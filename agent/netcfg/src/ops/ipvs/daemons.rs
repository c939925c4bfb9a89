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
    let before = running(context)?;
    for (role, (wanted, line)) in daemons {
        let old = of_role(&before, *role);
        let undo = old.cloned().map(Change::StartDaemon);
        log.push(&undo.unwrap_or(Change::StopDaemon(*role)));
        log.write().map_err(Error::UndoLog)?;
        if let Err(error) = replace(context, *role, old, wanted.as_ref()) {
            let undone = put_back(context, &before, daemons.keys());
            return Err(error.at_line(*line).after_undo(undone));
        }
    }
    Ok(())
}

/// Leaves the daemons of the given roles as they were, each of them even if another one fails.
fn put_back<'a>(
    context: &mut IpvsContext,
    before: &[Daemon],
    roles: impl Iterator<Item = &'a Role>,
) -> Result<(), Error> {
    let running = running(context)?;
    let mut result = Ok(());
    for role in roles {
        let former = of_role(before, *role);
        let undone = replace(context, *role, of_role(&running, *role), former);
        result = result.and(undone);
    }
    result
}

fn running(context: &mut IpvsContext) -> Result<Vec<Daemon>, Error> {
    let ipvs = context.ipvs()?;
    Ok(ipvs.family.status(&mut ipvs.socket)?.daemons)
}

fn of_role(daemons: &[Daemon], role: Role) -> Option<&Daemon> {
    daemons.iter().find(|daemon| daemon.role == role)
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
