//! Settings of `nic set`, which a card gets again after it was unplugged to be plugged anew.

use patchbay_types::failure::Failure;
use patchbay_types::{AdminState, Arp, IfName, LinkChange, LinkFlags, LinkName, LinkSpec};

use super::attachments::recorded;
use super::cards::CardKey;
use super::host_settings::set_on_host;
use super::update::update;
use crate::card::{Backend, HostChange, HostSettings, PlugRequest};
use crate::limit::Limit;
use crate::sandbox::{CardRecord, Sandbox};
use crate::vlan::PortVlan;

/// Settings of a card that neither a link nor a document has.
#[derive(Debug)]
pub(crate) struct OwnSettings {
    card: IfName,
    /// Host device and backend; `None` for a card that mirrors a link.
    backend: Option<(LinkName, Backend)>,
    host: HostSettings,
    flags: LinkFlags,
    rename: Option<IfName>,
}

impl OwnSettings {
    pub(crate) fn of(record: &CardRecord) -> Self {
        let spec = record.link.as_ref().map(|link| &link.spec);
        // The request for another card has its flags.
        let of_link = spec.filter(|_| record.mirror.is_some());
        let flags = LinkFlags {
            state: of_link
                .map(LinkSpec::state)
                .filter(|state| *state == AdminState::Down),
            arp: of_link
                .map(|spec| spec.parts().arp)
                .filter(|arp| *arp == Arp::Off),
            promisc: of_link.and_then(LinkSpec::promisc),
        };
        let name = spec.map(|spec| spec.parts().name.clone());
        Self {
            card: record.name.clone(),
            backend: match record.request() {
                Some(PlugRequest::Card(card)) => Some((card.device, card.backend)),
                _ => None,
            },
            host: record.host.now,
            flags,
            rename: name.filter(|name| *name != record.name),
        }
    }

    /// Reads the settings of a card; `None` for one that the journal has lost.
    pub(crate) fn read(sandbox: &Sandbox, card: &IfName) -> Result<Option<Self>, Failure> {
        let records = recorded(sandbox)?;
        let record = records.iter().find(|record| record.name == *card);
        Ok(record.map(Self::of))
    }

    /// Returns the settings that the card of a document can have in the place of this one. It has the name of the
    /// document, and its flags unless it has those of a link.
    pub(crate) fn for_request(&self, request: &PlugRequest) -> Self {
        let (backend, flags) = match request {
            PlugRequest::Card(card) => (Some((&card.device, &card.backend)), LinkFlags::default()),
            PlugRequest::Mirror(_) => (None, self.flags),
        };
        let old = self.backend.as_ref();
        let is_same = old.map(|(device, backend)| (device, backend)) == backend;
        let has_tap = !matches!(backend, Some((_, Backend::VhostUser(..))));
        let host = HostSettings {
            cable: self.host.cable,
            receive: if has_tap {
                self.host.receive
            } else {
                Limit::None
            },
            // A limit of a link is the operator's.
            send: match backend {
                Some(_) if has_tap => self.host.send,
                _ => Limit::None,
            },
            // Another bridge can have another network with this number.
            vlan: if is_same {
                self.host.vlan
            } else {
                PortVlan::Foreign
            },
        };
        Self {
            card: self.card.clone(),
            backend: self.backend.clone(),
            host,
            flags,
            rename: None,
        }
    }

    /// Gives the settings to the card that was plugged anew.
    pub(crate) fn restore(&self, sandbox: &Sandbox) -> Result<(), Failure> {
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
            vlan: Some(self.host.vlan),
        };
        let key = CardKey::Name((&self.card).into());
        set_on_host(sandbox, &key, change).map(drop)
    }

    fn restore_in_guest(&self, sandbox: &Sandbox) -> Result<(), Failure> {
        if self.flags == LinkFlags::default() && self.rename.is_none() {
            return Ok(());
        }
        let change = LinkChange::new((&self.card).into(), None, None, "addresses")?;
        let change = change
            .with_flags(self.flags)
            .with_rename(self.rename.clone());
        update(sandbox, &change).map(drop)
    }
}
