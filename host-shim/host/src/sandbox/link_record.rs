//! Configuration of a card in the journal: neither QEMU nor a guest that has restarted knows it.

use std::net::IpAddr;

use patchbay_types::{
    AdminState, Arp, BootId, DadPolicy, FieldError, InterfaceAddress, InvalidValue, LinkFields,
    LinkSpec, Mtu, Neighbor, Promisc, QueuePairs,
};
use serde::{Deserialize, Serialize};

/// Requested configuration of a card in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LinkText", into = "LinkText")]
pub(crate) struct LinkRecord {
    /// The latest request that was carried out.
    pub(crate) spec: LinkSpec,
    /// Boot in which the card was configured; `None` if the agent doesn't report it.
    pub(crate) boot: Option<BootId>,
}

/// JSON of a [`LinkRecord`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LinkText {
    name: String,
    mac: String,
    mtu: u16,
    addresses: Vec<(IpAddr, u8)>,
    queues: Option<u16>,
    arp: bool,
    dad: bool,
    boot: Option<String>,
    /// Addresses of the network layer and the link layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    neighbors: Vec<(IpAddr, String)>,
    /// Addresses without a prefix route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    no_prefix_route: Vec<IpAddr>,
    /// Absent in records of releases before 0.3.0.
    #[serde(default = "up", skip_serializing_if = "is_up")]
    up: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
}

fn up() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde needs"
)]
fn is_up(up: &bool) -> bool {
    *up
}

impl From<LinkRecord> for LinkText {
    fn from(record: LinkRecord) -> Self {
        let LinkFields {
            name,
            mac,
            mtu,
            addresses,
            queues,
            arp,
        } = record.spec.parts();
        let addresses = addresses.iter();
        Self {
            name: name.to_string(),
            mac: mac.to_string(),
            mtu: mtu.get(),
            addresses: addresses
                .map(|address| (address.ip(), address.prefix()))
                .collect(),
            queues: queues.map(QueuePairs::get),
            arp: *arp == Arp::On,
            dad: record.spec.duplicates() == DadPolicy::Detect,
            boot: record.boot.map(|boot| boot.to_string()),
            neighbors: record
                .spec
                .neighbors()
                .iter()
                .map(|entry| (entry.ip.get(), entry.lladdr.to_string()))
                .collect(),
            no_prefix_route: record
                .spec
                .addresses_without_prefix_route()
                .iter()
                .map(|address| address.ip())
                .collect(),
            up: record.spec.state() == AdminState::Up,
            promisc: record.spec.promisc().map(|promisc| promisc == Promisc::On),
        }
    }
}

impl TryFrom<LinkText> for LinkRecord {
    type Error = FieldError;

    fn try_from(text: LinkText) -> Result<Self, FieldError> {
        let LinkText {
            name,
            mac,
            mtu,
            addresses,
            queues,
            arp,
            dad,
            boot,
            neighbors,
            no_prefix_route,
            up,
            promisc,
        } = text;
        let of = |field: &'static str| move |invalid: InvalidValue| invalid.in_field(field);
        let addresses = addresses.into_iter();
        let addresses = addresses.map(|(ip, prefix)| InterfaceAddress::new(ip, prefix));
        let queues = queues.map(|pairs| QueuePairs::try_from(u64::from(pairs)));
        let fields = LinkFields {
            name: name.parse().map_err(of("name"))?,
            mac: mac.parse().map_err(of("mac"))?,
            mtu: Mtu::try_from(u64::from(mtu)).map_err(of("mtu"))?,
            addresses: addresses
                .collect::<Result<_, _>>()
                .map_err(of("addresses"))?,
            queues: queues.transpose().map_err(of("queues"))?,
            arp: if arp { Arp::On } else { Arp::Off },
        };
        let neighbor = |(ip, lladdr): (IpAddr, String)| {
            Ok(Neighbor {
                ip: ip.try_into()?,
                lladdr: lladdr.parse()?,
                device: (),
            })
        };
        let neighbors = neighbors.into_iter().map(neighbor);
        let neighbors = neighbors
            .collect::<Result<_, _>>()
            .map_err(of("neighbors"))?;
        let boot = boot.map(|boot| boot.parse());
        let spec = LinkSpec::new(fields, "addresses")?
            .with_dad(dad.into())
            .without_prefix_routes(|address| no_prefix_route.contains(&address.ip()))
            .with_state(up.into())
            .with_promisc(promisc.map(Promisc::from));
        Ok(Self {
            spec: spec.with_neighbors(neighbors, "neighbors")?,
            boot: boot.transpose().map_err(of("boot"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As release 0.2.0 writes it.
    const RECORDED: &str = r#"{"name":"eth1","mac":"02:00:00:00:00:01","mtu":1500,"addresses":[["172.16.0.3",16],["fd00::3",64]],"queues":2,"arp":true,"dad":false,"boot":"0ab2e5f4-6d1c-4a0e-9c7b-1f2e3d4c5b6a"}"#;

    #[test]
    fn recorded_configuration_stays_readable() {
        let record: LinkRecord = serde_json::from_str(RECORDED).unwrap();
        let parts = record.spec.parts();
        assert_eq!(parts.name.as_str(), "eth1");
        assert_eq!(parts.addresses[1].to_string(), "fd00::3/64");
        assert_eq!(serde_json::to_string(&record).unwrap(), RECORDED);
    }

    #[test]
    fn neighbors_are_recorded() {
        let neighbors = r#","neighbors":[["fd00::9","03:00:00:00:00:09"]]}"#;
        let recorded = RECORDED.replace('}', neighbors);
        let record: LinkRecord = serde_json::from_str(&recorded).unwrap();
        assert_eq!(record.spec.neighbors().len(), 1);
        assert_eq!(serde_json::to_string(&record).unwrap(), recorded);
    }

    #[test]
    fn addresses_without_prefix_route_are_recorded() {
        let recorded = RECORDED.replace('}', r#","no_prefix_route":["172.16.0.3"]}"#);
        let record: LinkRecord = serde_json::from_str(&recorded).unwrap();
        let marked = record.spec.addresses_without_prefix_route();
        assert_eq!(marked[0].to_string(), "172.16.0.3/16");
        assert_eq!(serde_json::to_string(&record).unwrap(), recorded);
    }

    #[test]
    fn flags_are_recorded() {
        let recorded = RECORDED.replace('}', r#","up":false,"promisc":true}"#);
        let record: LinkRecord = serde_json::from_str(&recorded).unwrap();
        assert_eq!(record.spec.state(), AdminState::Down);
        assert_eq!(record.spec.promisc(), Some(Promisc::On));
        assert_eq!(serde_json::to_string(&record).unwrap(), recorded);
    }

    #[test]
    fn invalid_configuration_names_the_field() {
        let broken = RECORDED.replace("1500", "67");
        let error = serde_json::from_str::<LinkRecord>(&broken).unwrap_err();
        assert!(error.to_string().starts_with("mtu '67'"), "{error}");
    }
}
