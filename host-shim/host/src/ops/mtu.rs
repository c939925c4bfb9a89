//! The MTU of a card in the guest and of its TAP on the host.
//!
//! At each moment the TAP takes every packet of the guest: it grows before the guest and shrinks after
//! it; for a card that is set down it does both before. In between the journal marks the card, and the next change that lists the guest's interfaces
//! gives the TAP the MTU that the guest has then.

use patchbay_types::failure::Failure;
use patchbay_types::{
    AddressDetail, AdminState, Interface, LinkChange, LinkFlags, LinkName, Mtu, Owner,
};

use super::{connect_over, link_change, query_host_and_guest};
use crate::agent::GuestAgent;
use crate::hotplug::{self, Inventory, InventoryNic, LockedSandbox, Tap};
use crate::interrupt::Interrupt;
use crate::sandbox::{CardRecord, Journal, MtuState};

/// Changes an interface and its MTU; if it is a card with a TAP, the TAP gets the same MTU. A failure
/// of either leaves both as they were.
pub(crate) fn update_with_tap(
    locked: &mut LockedSandbox<'_>,
    change: &LinkChange,
    mtu: Mtu,
) -> Result<(), Failure> {
    let sandbox = locked.sandbox;
    let agent = connect_over(locked.qmp()?, sandbox)?;
    // A reverse change needs the addresses if they change.
    let detail = change
        .addresses()
        .map_or(AddressDetail::Omitted, |_| AddressDetail::Listed);
    let (nics, agent, interfaces) = query_host_and_guest(agent, detail, || {
        Inventory::read_nics(locked.qmp()?, CardRecord::DEVICE_PREFIX)
    })?;
    finish(locked, &nics, &interfaces)?;
    let records = locked.records(&nics)?;
    let change = &link_change::with_card(change, &records);
    link_change::check_rename(change, &interfaces, &records)?;
    let before = link_change::target(change, &interfaces);
    let card = before.and_then(|before| Some((nic_of(before, &nics)?, before)));
    if let Some((nic, before)) = card {
        let id = |record: &&CardRecord| CardRecord::device_id(&record.name) == nic.id;
        let record = records.iter().find(id);
        if let Some(tap) = hotplug::card_tap(locked, nic, record)? {
            let card = Card {
                tap,
                record,
                before,
                interrupt: &sandbox.interrupt,
            };
            return card.update(&locked.journal, &*agent, change, mtu);
        }
    }
    let interface = link_change::send(&*agent, change)?;
    link_change::record(&locked.journal, records, change, &interface)
}

/// Gives the TAPs of cards whose change was interrupted the MTU of the guest. A TAP that can't get it
/// stays marked and must not prevent another change.
pub(super) fn finish(
    locked: &mut LockedSandbox<'_>,
    nics: &[InventoryNic],
    interfaces: &[Interface],
) -> Result<(), Failure> {
    for record in locked.journal.cards()? {
        let id = CardRecord::device_id(&record.name);
        let nic = nics.iter().find(|nic| nic.id == id);
        let nic = nic.filter(|_| record.mtu == MtuState::Changing);
        let of_guest = |interface: &&Interface| nic_of(interface, nics) == nic;
        let Some((nic, interface)) = nic.zip(interfaces.iter().find(of_guest)) else {
            continue;
        };
        let (name, mtu) = (&record.name, interface.mtu);
        match finish_card(locked, nic, &record, mtu) {
            Ok(()) => tracing::warn!(
                "an interrupted command has changed the mtu of the card {name}: its TAP has mtu {mtu} now, \
                 as the guest"
            ),
            Err(failure) => tracing::warn!(
                "the TAP of the card {name} could not get mtu {mtu} after an interrupted command: {}",
                failure.line()
            ),
        }
    }
    Ok(())
}

fn finish_card(
    locked: &mut LockedSandbox<'_>,
    nic: &InventoryNic,
    record: &CardRecord,
    mtu: u32,
) -> Result<(), Failure> {
    if let Some(tap) = hotplug::card_tap(locked, nic, Some(record))? {
        tap.set_mtu(mtu)?;
    }
    let mtu = Mtu::try_from(u64::from(mtu)).ok();
    let change = LinkChange::new((&record.name).into(), None, mtu, "addresses")?;
    let settled = CardRecord {
        mtu: MtuState::Settled,
        ..record.clone()
    };
    link_change::write(&locked.journal, settled, &change)
}

/// Prepares the TAP of a card for a guest that is configured anew.
pub(super) fn grow_tap(
    locked: &mut LockedSandbox<'_>,
    nics: &[InventoryNic],
    record: &CardRecord,
    mtu: Mtu,
) -> Result<(), Failure> {
    let id = CardRecord::device_id(&record.name);
    let Some(nic) = nics.iter().find(|nic| nic.id == id) else {
        return Ok(());
    };
    // A TAP in another network namespace is left as it is.
    let Ok(Some(tap)) = hotplug::card_tap(locked, nic, Some(record)) else {
        return Ok(());
    };
    let mtu = u32::from(mtu.get());
    if tap.mtu()? < mtu {
        tap.set_mtu(mtu)
    } else {
        Ok(())
    }
}

fn nic_of<'a>(interface: &Interface, nics: &'a [InventoryNic]) -> Option<&'a InventoryNic> {
    let mut nics = nics.iter();
    nics.find(|nic| nic.path.is_some() && nic.path == interface.path)
}

fn mark(journal: &Journal, record: &CardRecord, mtu: MtuState) -> Result<(), Failure> {
    journal.write(&CardRecord {
        mtu,
        ..record.clone()
    })
}

/// Card whose MTU changes.
struct Card<'a> {
    tap: Tap,
    /// `None` for a card that the journal has lost, which can't be marked.
    record: Option<&'a CardRecord>,
    /// Interface before the change.
    before: &'a Interface,
    interrupt: &'a Interrupt,
}

impl Card<'_> {
    fn update(
        &self,
        journal: &Journal,
        agent: &dyn GuestAgent,
        change: &LinkChange,
        mtu: Mtu,
    ) -> Result<(), Failure> {
        if let Some(record) = self.record {
            mark(journal, record, MtuState::Changing)?;
        }
        let changed = self.change(agent, change, mtu);
        let changed = changed.map_err(|Unsettled(failure)| {
            let later = "the next change of the sandbox gives the TAP the MTU of the guest";
            failure.with_cause(later)
        })?;
        let Some(record) = self.record else {
            return changed.map(drop);
        };
        match changed {
            Ok(_) => link_change::write(journal, record.clone(), change),
            Err(failure) => {
                mark(journal, record, MtuState::Settled)?;
                Err(failure)
            }
        }
    }

    /// Changes the TAP and the guest in the order that loses no packet.
    fn change(
        &self,
        agent: &dyn GuestAgent,
        change: &LinkChange,
        mtu: Mtu,
    ) -> Result<Result<Interface, Failure>, Unsettled> {
        let wanted = u32::from(mtu.get());
        let tap_before = match self.tap.mtu() {
            Ok(mtu) => mtu,
            Err(failure) => return Ok(Err(failure)),
        };
        // A card that is set down sends no packets, and its reverse change would lose routes.
        let is_set_down = change.flags().state == Some(AdminState::Down);
        if (wanted > tap_before || is_set_down)
            && let Err(failure) = self.tap.set_mtu(wanted)
        {
            return Ok(Err(failure));
        }
        let updated = agent.update(change);
        // The reverse change must not fail for a request.
        let _completion = self.interrupt.complete();
        let actual = match &updated {
            Ok(interface) => interface.mtu,
            Err(failure) => match self.actual_mtu(agent) {
                Some(mtu) if mtu == self.before.mtu => tap_before,
                Some(mtu) => mtu,
                None => {
                    // The card can be up, with the MTU of before.
                    let restored = self.tap.set_mtu(tap_before.max(wanted));
                    let failure = failure.clone();
                    return Err(Unsettled(match restored {
                        Ok(()) => failure,
                        Err(undo) => failure.with_cause(undo.line()),
                    }));
                }
            },
        };
        let Err(failure) = self.tap.set_mtu(actual) else {
            return Ok(updated);
        };
        let undone = updated.and_then(|_| agent.update(&self.reverse(change)?));
        match undone {
            Ok(_) => Ok(Err(failure)),
            Err(undo) => Err(Unsettled(failure.with_cause(undo.line()))),
        }
    }

    /// Returns the MTU in the guest, if the agent answers.
    fn actual_mtu(&self, agent: &dyn GuestAgent) -> Option<u32> {
        let interfaces = agent.interfaces(AddressDetail::Omitted).ok()?;
        let mut interfaces = interfaces.iter();
        let interface = interfaces.find(|interface| interface.index == self.before.index)?;
        Some(interface.mtu)
    }

    /// Returns the change that reverses another one.
    fn reverse(&self, change: &LinkChange) -> Result<LinkChange, Failure> {
        let own = self.before.addresses.iter();
        let own = own.filter(|found| found.owner == Owner::Patchbay);
        let own = own.map(|found| found.address).collect();
        let addresses = change.addresses().map(|_| own);
        let mtu = Mtu::try_from(u64::from(self.before.mtu)).ok();
        let (new, old) = (change.rename(), self.before.name.to_string().parse().ok());
        let name = new.map_or_else(|| change.name().clone(), LinkName::from);
        let reverse = LinkChange::new(name, addresses, mtu, "addresses")?;
        let reverse = reverse.with_rename(new.and(old));
        let LinkFlags {
            state,
            arp,
            promisc,
        } = change.flags();
        let flags = LinkFlags {
            state: state.map(|_| self.before.state()),
            arp: arp.map(|_| self.before.arp),
            promisc: promisc.and(self.before.promisc),
        };
        Ok(reverse.with_flags(flags).with_card(change.card().cloned()))
    }
}

/// Failure after which the TAP and the guest can have different MTUs.
struct Unsettled(Failure);
