//! Settings of a plugged card on the host: cable, bandwidth limits and VLAN.
//!
//! The journal has the settings before a change until it is complete, so that the next command undoes one
//! that ended early.

use patchbay_types::failure::{Failure, Kind};

use super::detached::card_tap;
use super::inventory::{Inventory, InventoryNic};
use super::locked::LockedSandbox;
use super::tap::Tap;
use crate::card::{Cable, HostChange, HostSettings};
use crate::limit::Limit;
use crate::qmp::command::SetLink;
use crate::sandbox::{BackendRecord, CardRecord, HostRecord, Phase, ShaperRecord, VlanRecord};
use crate::shaper;
use crate::vlan::PortVlan;

/// Changes the settings of a card. A failure leaves them as they were.
///
/// # Errors
/// [`Kind::Invalid`] for a limit of a card without a TAP, and for a VLAN of a TAP outside a bridge with VLANs;
/// [`Kind::Exists`] for a TAP with a limit or a filter of another program; failures of QEMU and the host's
/// kernel.
pub(crate) fn change_host(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    record: &CardRecord,
    change: HostChange,
) -> Result<HostSettings, Failure> {
    let before = record.host.now;
    let now = change.applied_to(before);
    if !(now.receive.is_none() && now.send.is_none()) {
        // Without a TAP nothing is to be undone.
        tap(locked, nic, record)?;
    }
    let shaper = match (&record.host.shaper, now.send) {
        (None, Limit::Rate(_)) => Some(plan(locked, nic, record)?),
        (planned, _) => planned.clone(),
    };
    // A change of other settings must be possible when the VLAN is not any more.
    let port_vlans = match change.vlan {
        Some(vlan) => port_vlans(locked, nic, record, vlan)?,
        None => record.host.port_vlans.clone(),
    };
    locked.sandbox.interrupt.begin_change()?;
    let host = HostRecord {
        now,
        before: Some(before),
        shaper,
        port_vlans,
    };
    let changing = CardRecord {
        host,
        ..record.clone()
    };
    locked.journal.write(&changing)?;
    let changed = converge(locked, nic, &changing, now).and_then(|()| {
        locked.sandbox.interrupt.check()?;
        settle(locked, &changing, now)
    });
    let Err(failure) = changed else {
        return Ok(now);
    };
    // The failure can be that of the session.
    locked.release_monitor();
    match undo(locked, nic, &changing) {
        Ok(()) => Err(failure),
        Err(undo) => {
            let message =
                format!("cleanup is incomplete and will be retried by the next command: {undo}");
            Err(failure.with_cause(message))
        }
    }
}

/// Checks that another card in the place of this one can have its settings.
///
/// # Errors
/// [`Kind::Invalid`] for a VLAN of a TAP outside a bridge with VLANs.
pub(crate) fn check_settings(
    locked: &mut LockedSandbox<'_>,
    nics: &[InventoryNic],
    record: &CardRecord,
) -> Result<(), Failure> {
    let id = CardRecord::device_id(&record.name);
    match nics.iter().find(|nic| nic.id == id) {
        Some(nic) => port_vlans(locked, nic, record, record.host.now.vlan).map(drop),
        None => Ok(()),
    }
}

/// Gives a plugged card its recorded settings again. The record gets the VLANs of a bridge that was made anew.
pub(crate) fn restore_settings(
    locked: &mut LockedSandbox<'_>,
    nics: &[InventoryNic],
    record: &mut CardRecord,
) -> Result<(), Failure> {
    let id = CardRecord::device_id(&record.name);
    let nic = nics.iter().find(|nic| nic.id == id);
    let Some(nic) = nic.filter(|_| record.host != HostRecord::default()) else {
        return Ok(());
    };
    let port_vlans = port_vlans(locked, nic, record, record.host.now.vlan)?;
    if port_vlans != record.host.port_vlans {
        record.host.port_vlans = port_vlans;
        locked.journal.write(record)?;
    }
    converge(locked, nic, record, record.host.now)
}

/// Undoes the changes of commands that ended early. One that can't be undone stays marked, and must not
/// prevent another change.
pub(super) fn undo_left(locked: &mut LockedSandbox<'_>) -> Result<(), Failure> {
    let mut left = locked.journal.cards()?;
    left.retain(|card| card.phase == Phase::Plugged && card.host.before.is_some());
    if left.is_empty() {
        return Ok(());
    }
    let nics = Inventory::read_nics(locked.qmp()?, CardRecord::DEVICE_PREFIX)?;
    for card in left {
        let name = &card.name;
        let id = CardRecord::device_id(name);
        let Some(nic) = nics.iter().find(|nic| nic.id == id) else {
            continue;
        };
        match undo(locked, nic, &card) {
            Ok(()) => tracing::warn!(
                "a command ended early while it changed cable, limits or VLAN of the card {name}, which has the \
                 earlier ones again"
            ),
            Err(failure) => tracing::warn!(
                "cable, limits or VLAN of the card {name} could not be restored after a command that ended early: {}",
                failure.line()
            ),
        }
    }
    Ok(())
}

fn undo(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    changing: &CardRecord,
) -> Result<(), Failure> {
    let before = changing.host.before.unwrap_or_default();
    converge(locked, nic, changing, before)?;
    settle(locked, changing, before)
}

/// Records the settings of a change that is complete.
fn settle(
    locked: &mut LockedSandbox<'_>,
    record: &CardRecord,
    now: HostSettings,
) -> Result<(), Failure> {
    let HostRecord {
        shaper, port_vlans, ..
    } = record.host.clone();
    let host = HostRecord {
        now,
        before: None,
        shaper: shaper.filter(|_| !now.send.is_none()),
        port_vlans: port_vlans.filter(|_| !now.vlan.is_foreign()),
    };
    locked.journal.write(&CardRecord {
        host,
        ..record.clone()
    })
}

/// Gives a card settings, whichever of the recorded ones it has.
fn converge(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    record: &CardRecord,
    to: HostSettings,
) -> Result<(), Failure> {
    let host = &record.host;
    if host.limits_received() || host.shaper.is_some() {
        let tap = tap(locked, nic, record)?;
        let shaping = tap.shaper()?;
        shaping.limit_received(to.receive)?;
        if let Some(shaper) = &host.shaper {
            shaping.limit_sent(shaper, to.send)?;
        }
    }
    if host
        .before
        .is_none_or(|before| before.cable != host.now.cable)
    {
        let name = CardRecord::device_id(&record.name);
        let up = to.cable == Cable::Up;
        locked.qmp()?.run(&SetLink { name: &name, up })?;
    }
    let has_changed = host
        .before
        .is_none_or(|before| before.vlan != host.now.vlan);
    match &host.port_vlans {
        Some(vlans) if has_changed => tap(locked, nic, record)?.set_vlan(vlans, to.vlan),
        _ => Ok(()),
    }
}

/// Returns the VLANs that the port had before its card was given one; `None` for a card that has none and is
/// given none.
fn port_vlans(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    record: &CardRecord,
    to: PortVlan,
) -> Result<Option<VlanRecord>, Failure> {
    let known = record.host.port_vlans.as_ref();
    match to {
        PortVlan::Foreign => Ok(known.cloned()),
        PortVlan::Untagged(_) => {
            let tap = tap(locked, nic, record)?;
            if let (BackendRecord::OwnTap, None) = (&record.backend, &record.port) {
                let message = format!(
                    "the TAP device of the card '{}' ends with it, and leaves a bridge: plug the card with a bridge \
                     (nic add --bridge)",
                    record.name
                );
                return Err(Failure::new(Kind::Invalid, message).with_field("vlan"));
            }
            tap.vlans_of_port(known).map(Some)
        }
    }
}

fn plan(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    record: &CardRecord,
) -> Result<ShaperRecord, Failure> {
    if let Some(mirror) = &record.mirror {
        let message = format!(
            "the card '{}' passes its frames to the link '{}': limit that ('tc qdisc add dev {} root tbf ...')",
            record.name, mirror.link, mirror.link
        );
        return Err(Failure::new(Kind::Invalid, message).with_field("txLimit"));
    }
    tap(locked, nic, record)?.shaper()?.plan(&record.suffix)
}

fn tap(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    record: &CardRecord,
) -> Result<Tap, Failure> {
    card_tap(locked, nic, Some(record))?.ok_or_else(|| {
        let message = format!(
            "the card '{}' has no TAP device: limits and VLANs are settings of its vhost-user backend",
            record.name
        );
        Failure::new(Kind::Invalid, message)
    })
}

/// Removes limits and VLAN of a card whose device is gone from a TAP that existed before, and from its network
/// namespace. Repeating it changes nothing.
pub(super) fn remove_settings(record: &CardRecord, tap: &Tap) -> Result<(), Failure> {
    let links = tap.links();
    if let Some(record) = &record.host.shaper {
        shaper::remove(links, record)?;
    }
    let BackendRecord::ExistingTap(saved) = &record.backend else {
        return Ok(());
    };
    let link = tap
        .saved_link(*saved)
        .map_err(|error| Failure::of_io("could not read the TAP device of the card", &error))?;
    let Some(link) = link else {
        return Ok(());
    };
    if let Some(vlans) = &record.host.port_vlans {
        tap.restore_vlans(link, vlans)?;
    }
    if !record.host.limits_received() {
        return Ok(());
    }
    let shaping = shaper::Shaper {
        links,
        tap: link.index,
    };
    shaping.limit_received(Limit::None)
}
