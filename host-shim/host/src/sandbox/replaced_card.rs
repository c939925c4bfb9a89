//! Cards that are unplugged to be plugged anew: until that is done, only the journal has their configuration.

use std::net::IpAddr;

use patchbay_types::{LinkName, LinkSpec, Neighbor, RouteSpec};
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
    /// Process that replaces the card; `None` once it has given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Process>,
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
            owner: Process::current(),
        }
    }

    /// Returns whether no process replaces the card any more.
    pub(crate) fn is_left(&self) -> bool {
        !self.owner.is_some_and(|owner| owner.is_alive())
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
        assert!(!read.is_left());
        assert!(read.released().is_left());
    }
}
