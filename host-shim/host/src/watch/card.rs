//! Changes of cards whose links have changed.

use patchbay_types::failure::Failure;
use patchbay_types::{AdminState, Arp, IfName, LinkChange, LinkFlags, LinkSpec};

use super::examiner::{Examiner, is_watched};
use super::follow::follow;
use super::{Action, Watched};
use crate::card::{HostChange, HostSettings};
use crate::hotplug::{self, LockedSandbox};
use crate::ops::{self, CardKey};
use crate::sandbox::{CardRecord, Phase, Sandbox};

/// Settings of a card that its link doesn't have: those of `nic set`.
#[derive(Debug)]
pub(super) struct OwnSettings {
    card: IfName,
    host: HostSettings,
    flags: LinkFlags,
    rename: Option<IfName>,
}

impl OwnSettings {
    fn of(record: &CardRecord) -> Self {
        let spec = record.link.as_ref().map(|link| &link.spec);
        let parts = spec.map(LinkSpec::parts);
        let flags = LinkFlags {
            state: spec
                .map(LinkSpec::state)
                .filter(|state| *state == AdminState::Down),
            arp: parts.map(|parts| parts.arp).filter(|arp| *arp == Arp::Off),
            promisc: spec.and_then(LinkSpec::promisc),
        };
        let name = parts.map(|parts| parts.name.clone());
        Self {
            card: record.name.clone(),
            host: record.host.now,
            flags,
            rename: name.filter(|name| *name != record.name),
        }
    }

    /// Gives the settings to the card that was plugged anew.
    pub(super) fn restore(&self, sandbox: &Sandbox) -> Result<(), Failure> {
        // Each is tried.
        let on_host = self.restore_on_host(sandbox);
        on_host.and(self.restore_in_guest(sandbox))
    }

    fn restore_on_host(&self, sandbox: &Sandbox) -> Result<(), Failure> {
        if self.host == HostSettings::default() {
            return Ok(());
        }
        let change = HostChange {
            cable: Some(self.host.cable),
            receive: Some(self.host.receive),
            send: Some(self.host.send),
        };
        let key = CardKey::Name((&self.card).into());
        ops::set_on_host(sandbox, &key, change).map(drop)
    }

    fn restore_in_guest(&self, sandbox: &Sandbox) -> Result<(), Failure> {
        if self.flags == LinkFlags::default() && self.rename.is_none() {
            return Ok(());
        }
        let change = LinkChange::new((&self.card).into(), None, None, "addresses of the link")?;
        let change = change
            .with_flags(self.flags)
            .with_rename(self.rename.clone());
        ops::update(sandbox, &change).map(drop)
    }
}

/// Change of a card that was carried out.
#[derive(Debug)]
pub(super) enum Done {
    /// Complete.
    Changed(Action),
    /// The card is unplugged, and is to be plugged anew with these settings.
    UnpluggedForReplug(OwnSettings),
}

/// Carries out the change that a card needs once the lock is held, and returns it.
pub(super) fn carry_out(
    sandbox: &Sandbox,
    watched: &Watched,
    name: &IfName,
) -> Result<Option<Done>, Failure> {
    let locked = LockedSandbox::begin(sandbox)?;
    let record = locked.journal.card(name)?;
    // Another command can have unplugged it, or taken it over.
    let is_kept = |record: &CardRecord| record.phase == Phase::Plugged && is_watched(record);
    let Some(record) = record.filter(is_kept) else {
        return Ok(None);
    };
    let Some(action) = Examiner::new(&watched.netns)?.examine(&record)? else {
        return Ok(None);
    };
    match action {
        Action::Plug => return Ok(None),
        Action::Update => follow(locked, &watched.netns, &record)?,
        Action::Unplug | Action::Replug => {
            let settings = OwnSettings::of(&record);
            sandbox.interrupt.begin_change()?;
            hotplug::remove(locked, record)?;
            if action == Action::Replug {
                return Ok(Some(Done::UnpluggedForReplug(settings)));
            }
        }
    }
    Ok(Some(Done::Changed(action)))
}
