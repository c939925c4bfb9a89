//! Cards that are unplugged to be plugged anew: until that is done, only the journal has their configuration.

use std::net::IpAddr;

use patchbay_types::{LinkName, LinkSpec, MacAddr, Neighbor, QueuePairs, RouteSpec};
use serde::{Deserialize, Serialize};

use super::card_record::CardRecord;
use super::route_record::RouteRecord;
use crate::process::Process;

/// Card as it was before its replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplacedCard {
    pub(crate) card: CardRecord,
    /// Routes through it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteRecord>,
    /// Static neighbors on its link: addresses of the network layer and the link layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    neighbors: Vec<(IpAddr, String)>,
    /// Card that is to take its place, if that is to be another device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<Device>,
    /// Process that replaces the card; `None` once it has given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Process>,
}

/// Properties of a device that a change replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    mac: String,
    queues: u16,
}

impl Device {
    fn new(mac: MacAddr, queues: Option<QueuePairs>) -> Self {
        Self {
            mac: mac.to_string(),
            queues: queues.unwrap_or(QueuePairs::ONE).get(),
        }
    }

    fn of(card: &CardRecord) -> Option<Self> {
        let link = card.link.as_ref()?.spec.parts();
        Some(Self::new(link.mac, link.queues))
    }
}

impl ReplacedCard {
    /// Records a card, with the routes and static neighbors through it, for this process.
    pub(crate) fn new(card: CardRecord, routes: &[RouteSpec], neighbors: &[Neighbor]) -> Self {
        let texts = neighbors.iter();
        let texts = texts.map(|entry| (entry.ip.get(), entry.lladdr.to_string()));
        Self {
            card,
            routes: RouteRecord::list(routes),
            neighbors: texts.collect(),
            successor: None,
            owner: Process::current(),
        }
    }

    /// Records the properties of the card that is to take its place; `None`: those of the replaced one.
    pub(crate) fn with_successor(self, mac: Option<MacAddr>, queues: Option<QueuePairs>) -> Self {
        let parts = self.spec().map(LinkSpec::parts);
        let successor = parts.map(|old| {
            let mac = mac.unwrap_or(old.mac);
            Device::new(mac, queues.or(old.queues))
        });
        Self { successor, ..self }
    }

    /// Returns whether a plugged card has the device of the replaced one.
    pub(crate) fn is_same_device(&self, present: &CardRecord) -> bool {
        Device::of(present).is_some_and(|present| Some(present) == Device::of(&self.card))
    }

    /// Returns whether a plugged card is the one that was to take its place.
    pub(crate) fn is_successor(&self, present: &CardRecord) -> bool {
        Device::of(present).is_some_and(|present| Some(present) == self.successor)
    }

    /// Returns whether a plugged card replaces the same link.
    pub(crate) fn has_link_of(&self, present: &CardRecord) -> bool {
        let index = |card: &CardRecord| card.mirror.as_ref().map(|mirror| mirror.wire.index);
        index(present).is_some() && index(present) == index(&self.card)
    }

    /// Returns whether no process replaces the card any more.
    pub(crate) fn is_left(&self) -> bool {
        !self.owner.is_some_and(|owner| owner.is_alive())
    }

    /// Returns whether the process that replaced the card has died.
    pub(crate) fn is_of_dead_process(&self) -> bool {
        self.owner.is_some() && self.is_left()
    }

    /// Returns whether another process replaces the card now.
    pub(crate) fn is_in_work(&self) -> bool {
        !self.is_left() && self.owner != Process::current()
    }

    /// Returns the card as that of this process.
    pub(crate) fn claimed(self) -> Self {
        let owner = Process::current();
        Self { owner, ..self }
    }

    /// Returns the card as one that any process may plug again.
    pub(crate) fn released(self) -> Self {
        Self {
            owner: None,
            ..self
        }
    }

    /// Returns the interface of the card as it was configured last; `None` for a card that the journal has lost.
    pub(crate) fn device(&self) -> Option<LinkName> {
        let link = self.card.link.as_ref()?;
        Some(LinkName::from(&link.spec.parts().name))
    }

    /// Returns the configuration in the guest.
    pub(crate) fn spec(&self) -> Option<&LinkSpec> {
        self.card.link.as_ref().map(|link| &link.spec)
    }

    /// Returns the routes through this device, those without a gateway first.
    pub(crate) fn routes(&self, device: &LinkName) -> Vec<RouteSpec> {
        let routes = self.routes.iter();
        let mut routes: Vec<_> = routes.filter_map(|route| route.request(device)).collect();
        routes.sort_by_key(|route| route.fields().gateway.is_some());
        routes
    }

    /// Returns the static neighbors on this device.
    pub(crate) fn neighbors(&self, device: &LinkName) -> Vec<Neighbor> {
        let neighbors = self.neighbors.iter().filter_map(|(ip, lladdr)| {
            Some(Neighbor {
                ip: (*ip).try_into().ok()?,
                lladdr: lladdr.parse().ok()?,
                device: device.clone(),
            })
        });
        neighbors.collect()
    }
}

#[cfg(test)]
mod tests {
    use patchbay_types::{Arp, LinkFields, Mtu};

    use super::super::LinkRecord;
    use super::super::journal::ReplacedCards;
    use super::super::journal::tests::card;
    use super::*;

    #[test]
    fn written_card_is_read_with_its_routes_and_neighbors() {
        let dir = tempfile::tempdir().unwrap();
        let journal = ReplacedCards::at(dir.path());
        let device: LinkName = "eth1".parse().unwrap();
        let request = |dest: &str, gateway: Option<&str>| {
            RouteSpec::new(patchbay_types::RouteRequest {
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                ..patchbay_types::RouteRequest::open(dest.parse().unwrap(), device.clone())
            })
        };
        let through = request("10.2.0.0/16", Some("10.1.0.1")).unwrap();
        let on_link = request("10.1.0.0/16", None).unwrap();
        let neighbor = Neighbor {
            ip: "10.1.0.1".parse::<IpAddr>().unwrap().try_into().unwrap(),
            lladdr: "02:00:00:00:00:09".parse().unwrap(),
            device: device.clone(),
        };
        let routes = [through.clone(), on_link.clone()];
        let replaced = ReplacedCard::new(card("eth1"), &routes, std::slice::from_ref(&neighbor));
        journal.write(&replaced).unwrap();
        let read = journal.card(&"eth1".parse().unwrap()).unwrap().unwrap();
        assert_eq!(read, replaced);
        let routes = read.routes(&device);
        assert_eq!(routes[0].resolve(), on_link.resolve());
        assert_eq!(routes[1].resolve(), through.resolve());
        assert_eq!(read.neighbors(&device), [neighbor]);
        assert!(!read.is_left() && !read.is_of_dead_process());
        let released = read.released();
        assert!(released.is_left() && !released.is_of_dead_process());
    }

    #[test]
    fn card_of_another_command_is_neither_the_old_one_nor_the_new_one() {
        let with = |mac: &str, queues: Option<u64>| {
            let link = LinkFields {
                name: "eth1".parse().unwrap(),
                mac: mac.parse().unwrap(),
                mtu: Mtu::try_from(1500).unwrap(),
                addresses: Vec::new(),
                queues: queues.map(|pairs| QueuePairs::try_from(pairs).unwrap()),
                arp: Arp::On,
            };
            let spec = LinkSpec::new(link, "addresses").unwrap();
            CardRecord {
                link: Some(LinkRecord { spec, boot: None }),
                ..card("eth1")
            }
        };
        let [old, new, other] = [1, 2, 3].map(|number| format!("02:00:00:00:00:0{number}"));
        let replaced = ReplacedCard::new(with(&old, None), &[], &[]);
        let replaced = replaced.with_successor(new.parse().ok(), None);
        for (present, is_same, is_successor) in [
            (with(&old, Some(1)), true, false),
            (with(&old, Some(2)), false, false),
            (with(&new, None), false, true),
            (with(&other, None), false, false),
            (card("eth1"), false, false),
        ] {
            assert_eq!(replaced.is_same_device(&present), is_same, "{present:?}");
            assert_eq!(replaced.is_successor(&present), is_successor, "{present:?}");
            assert!(!replaced.has_link_of(&present));
        }
    }
}
