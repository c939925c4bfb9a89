//! Cards of a sandbox: QEMU's list of them, and the guest's claims about each.
//!
//! A card has two names. QEMU's id contains the one under which it was plugged; the guest can rename
//! the interface, and reports the present name with the PCI path. After a restart of the guest the
//! interface has a name of its kernel, which nobody gave it and which can be that of another card.

use std::fmt;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{BootId, IfName, Interface, LinkName, MacAddr, PciPath, Place};

use super::difference::guest_difference;
use crate::agent::{AnyAgent, GuestAgent};
use crate::guest::Guest;
use crate::hotplug::InventoryNic;
use crate::sandbox::{CardRecord, Phase};

/// Plugged card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Name under which it was plugged.
    pub name: IfName,
    /// MAC address of the device in QEMU.
    pub mac: MacAddr,
    /// PCI path.
    pub path: Option<PciPath>,
    /// Interface in the agent's network namespace.
    pub interface: Option<Interface>,
    /// State that a working card doesn't have.
    pub state: Option<CardState>,
}

/// State of a card that doesn't work as requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardState {
    /// It has no interface in the agent's network namespace.
    Hidden(Place),
    /// The guest has restarted since it was configured.
    NotConfigured,
    /// A command is plugging it.
    Adding,
    /// It was unplugged, and the guest has not released it yet.
    Removing,
    /// A command ended early; the next change of cards removes it.
    Left,
}

impl CardState {
    /// Returns whether the card can be configured anew.
    pub(super) fn is_configurable(&self) -> bool {
        *self == Self::NotConfigured
    }

    /// Returns the state of a card that a command works on.
    fn of_operation(record: &CardRecord) -> Option<Self> {
        match record.phase {
            Phase::Plugged => None,
            _ if record.is_left() && record.owner.is_some() => Some(Self::Left),
            Phase::Adding => Some(Self::Adding),
            Phase::Removing => Some(Self::Removing),
        }
    }
}

impl fmt::Display for CardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden(place) => place.fmt(f),
            Self::NotConfigured => write!(f, "not configured since the guest's restart"),
            Self::Adding => write!(f, "being plugged"),
            Self::Removing => write!(f, "being removed"),
            Self::Left => write!(f, "left by a command that ended early"),
        }
    }
}

/// Key by which a command names a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardKey {
    /// Name under which it was plugged, or its present name in the guest.
    Name(LinkName),
    /// MAC address of the device in QEMU.
    Mac(MacAddr),
}

impl CardKey {
    /// Returns the failure of a command whose card doesn't exist.
    #[must_use]
    pub fn not_found(&self) -> Failure {
        let message = format!("the sandbox has no card with the {self}");
        Failure::new(Kind::NotFound, message).with_field("name")
    }
}

impl fmt::Display for CardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name '{name}'"),
            Self::Mac(mac) => write!(f, "MAC address '{mac}'"),
        }
    }
}

impl Card {
    /// Returns the present name in the guest, if it is another one than that of the plug.
    #[must_use]
    pub fn other_name(&self) -> Option<&LinkName> {
        let name = &self.interface.as_ref()?.name;
        (*name != self.name).then_some(name)
    }

    fn is(&self, key: &CardKey) -> bool {
        match key {
            CardKey::Mac(mac) => self.mac == *mac,
            CardKey::Name(name) => {
                let was_named = self.state != Some(CardState::NotConfigured);
                *name == self.name || was_named && self.other_name() == Some(name)
            }
        }
    }
}

/// Lists the cards as QEMU has them, without the guest's part. Skips devices with foreign ids.
pub(crate) fn of_machine(nics: &[InventoryNic]) -> Vec<Card> {
    let card = |nic: &InventoryNic| {
        Some(Card {
            name: nic.name()?.parse().ok()?,
            mac: nic.mac,
            path: nic.path.clone(),
            interface: None,
            state: None,
        })
    };
    nics.iter().filter_map(card).collect()
}

/// Lists the cards in the order of the guest's interface indices, then those without an interface,
/// and returns the guest for their configuration.
///
/// # Errors
/// Failures of the agent.
pub(crate) fn with_guest(
    mut cards: Vec<Card>,
    interfaces: &[Interface],
    agent: AnyAgent,
    records: &[CardRecord],
) -> Result<(Vec<Card>, Guest), Failure> {
    let boot = agent.greeting()?.boot;
    for card in &mut cards {
        let is_at = |interface: &&Interface| card.path.is_some() && interface.path == card.path;
        card.interface = interfaces.iter().find(is_at).cloned();
        let record = records.iter().find(|record| record.name == card.name);
        if is_unconfigured(card, record, boot.as_ref()) {
            card.state = Some(CardState::NotConfigured);
        }
    }
    let hidden = |card: &&mut Card| card.interface.is_none();
    let paths = cards.iter_mut().filter(hidden);
    let paths: Vec<PciPath> = paths.filter_map(|card| card.path.clone()).collect();
    let mut places = places(&*agent, &paths)?.into_iter();
    for card in cards.iter_mut().filter(hidden) {
        let place = card.path.as_ref().and_then(|_| places.next());
        card.state = Some(CardState::Hidden(place.unwrap_or(Place::Unknown)));
    }
    for card in &mut cards {
        let record = records.iter().find(|record| record.name == card.name);
        card.state = record
            .and_then(CardState::of_operation)
            .or(card.state.take());
    }
    cards.sort_by_key(|card| {
        let index = card.interface.as_ref().map(|interface| interface.index);
        (index.is_none(), index)
    });
    let lost = cards
        .iter()
        .filter(|card| card.state == Some(CardState::NotConfigured));
    let guest = Guest {
        agent,
        boot,
        yielding: lost.filter_map(|card| card.path.clone()).collect(),
    };
    Ok((cards, guest))
}

/// Returns whether a card has lost its configuration by a restart of the guest. Without a boot id, a
/// card that is down and bare is taken for one that the kernel has just detected.
fn is_unconfigured(card: &Card, record: Option<&CardRecord>, boot: Option<&BootId>) -> bool {
    let Some(interface) = &card.interface else {
        return false;
    };
    let link = record.and_then(|record| record.link.as_ref());
    match link
        .and_then(|link| Some((link, link.boot.as_ref()?)))
        .zip(boot)
    {
        Some(((link, then), now)) => {
            then != now && guest_difference(interface, &link.spec).is_some()
        }
        None => !interface.up && interface.addresses.is_empty() && card.other_name().is_some(),
    }
}

/// Locates cards; not every agent can.
fn places(agent: &dyn GuestAgent, paths: &[PciPath]) -> Result<Vec<Place>, Failure> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    match agent.places(paths) {
        Err(failure) if failure.kind() == Kind::Unsupported => {
            Ok(vec![Place::Unknown; paths.len()])
        }
        places => places,
    }
}

/// Finds the card that a command names.
///
/// # Errors
/// [`Kind::Invalid`] if the key fits several cards.
pub(super) fn find<'a>(cards: &'a [Card], key: &CardKey) -> Result<Option<&'a Card>, Failure> {
    let found: Vec<&Card> = cards.iter().filter(|card| card.is(key)).collect();
    match found[..] {
        [] => Ok(None),
        [card] => Ok(Some(card)),
        _ => {
            let cards = found.iter().map(|card| {
                let now = card.other_name().map(|now| format!(", now '{now}'"));
                let now = now.unwrap_or_default();
                format!("{} (plugged as {}{now})", card.mac, card.name)
            });
            let cards = cards.collect::<Vec<_>>().join(" and ");
            let message = format!("{key} is ambiguous: it fits the cards {cards}");
            Err(Failure::new(Kind::Invalid, message)
                .with_field("name")
                .with_cause("'patchbay nic del' and 'nic apply' also take --mac"))
        }
    }
}

/// Finds the card to unplug. `guest` is called only if the guest's names can matter, so that a card
/// can be unplugged without an agent.
pub(super) fn find_to_unplug(
    cards: Vec<Card>,
    key: &CardKey,
    guest: impl FnOnce(Vec<Card>) -> Result<Vec<Card>, Failure>,
) -> Result<Option<Card>, Failure> {
    let known = find(&cards, key)?.cloned();
    let others = cards.len() - usize::from(known.is_some());
    if others == 0 || matches!(key, CardKey::Mac(_)) {
        return Ok(known);
    }
    match guest(cards) {
        Ok(cards) => find(&cards, key).map(Option::<&Card>::cloned),
        Err(failure) => known.map(Some).ok_or(failure),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use patchbay_types::Arp;

    use super::*;

    /// Returns a card that was plugged under a name, and is an interface with the name that it has now.
    pub(in super::super) fn card(name: &str, number: u8, now: &str) -> Card {
        Card {
            name: name.parse().unwrap(),
            mac: MacAddr::try_from([2, 0, 0, 0, 0, number]).unwrap(),
            path: None,
            interface: Some(Interface {
                index: 2,
                name: now.parse().unwrap(),
                mac: None,
                mtu: 1500,
                addresses: Vec::new(),
                path: None,
                queues: None,
                up: true,
                arp: Arp::On,
                carrier: None,
                promisc: None,
            }),
            state: None,
        }
    }

    fn name(text: &str) -> CardKey {
        CardKey::Name(text.parse().unwrap())
    }

    /// Returns the name under which the found card was plugged.
    fn found(cards: &[Card], key: &CardKey) -> Result<Option<String>, Kind> {
        let found = find(cards, key).map_err(|failure| failure.kind())?;
        Ok(found.map(|card| card.name.to_string()))
    }

    #[test]
    fn find_takes_either_name_and_refuses_ambiguous_ones() {
        let mut cards = [card("eth1", 1, "wan0"), card("eth2", 2, "eth1")];
        let eth2 = Ok(Some("eth2".to_owned()));
        assert_eq!(found(&cards, &name("wan0")), Ok(Some("eth1".to_owned())));
        assert_eq!(found(&cards, &name("eth2")), eth2);
        assert_eq!(found(&cards, &name("eth3")), Ok(None));
        assert_eq!(found(&cards, &name("eth1")), Err(Kind::Invalid));
        assert_eq!(found(&cards, &CardKey::Mac(cards[1].mac)), eth2);
        // The kernel's names after a restart aren't names of cards.
        cards[1].state = Some(CardState::NotConfigured);
        assert_eq!(found(&cards, &name("eth1")), Ok(Some("eth1".to_owned())));
    }

    #[test]
    fn find_to_unplug_asks_the_guest_only_if_names_can_matter() {
        let cards = [card("eth1", 1, "eth1"), card("eth2", 2, "eth2")];
        let without_guest = |cards: &[Card], key: &CardKey| {
            let silent = |_| Err(Failure::new(Kind::Timeout, "no agent"));
            let found = find_to_unplug(cards.to_vec(), key, silent);
            let found = found.map_err(|failure| failure.kind())?;
            Ok(found.map(|card| card.name.to_string()))
        };
        let eth1 = Ok(Some("eth1".to_owned()));
        assert_eq!(without_guest(&[], &name("eth1")), Ok(None));
        assert_eq!(without_guest(&cards[..1], &name("eth1")), eth1);
        assert_eq!(without_guest(&cards, &name("eth1")), eth1);
        assert_eq!(without_guest(&cards, &name("x")), Err(Kind::Timeout));
        let guest = |_| Ok(vec![card("eth1", 1, "x"), card("eth2", 2, "eth1")]);
        let both = find_to_unplug(cards.to_vec(), &name("eth1"), guest);
        assert_eq!(both.unwrap_err().kind(), Kind::Invalid);
    }
}
