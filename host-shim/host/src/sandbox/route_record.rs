//! Routes through a card in the journal: those of a mirrored link, by which the ones that it has lost are
//! deleted in the guest, and those of a card that is replaced.

use std::net::IpAddr;

use ipnet::IpNet;
use patchbay_types::{
    Destination, LinkName, Onlink, RouteMtu, RoutePattern, RouteProtocol, RouteRequest, RouteSpec,
    RouteTable, Scope,
};
use serde::{Deserialize, Serialize};

/// Route of the guest through a card.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct RouteRecord {
    dest: (IpAddr, u8),
    metric: u32,
    scope: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<u8>,
    #[serde(default)]
    onlink: bool,
    #[serde(default = "main", skip_serializing_if = "is_main")]
    table: u32,
}

fn main() -> u32 {
    RouteTable::MAIN.get()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde needs"
)]
fn is_main(table: &u32) -> bool {
    *table == main()
}

impl RouteRecord {
    /// Records routes.
    pub(crate) fn list(specs: &[RouteSpec]) -> Vec<Self> {
        specs.iter().map(Self::new).collect()
    }

    fn new(spec: &RouteSpec) -> Self {
        let route = spec.resolve();
        Self {
            dest: (route.dest.addr(), route.dest.prefix_len()),
            metric: route.metric,
            scope: route.scope.get(),
            gateway: route.gateway,
            source: route.source,
            mtu: route.mtu.map(RouteMtu::get),
            protocol: route.protocol.map(RouteProtocol::get),
            onlink: route.onlink == Onlink::On,
            table: route.table.get(),
        }
    }

    /// Returns the request for the route through this device; `None` if the journal has no such route.
    pub(crate) fn request(&self, device: &LinkName) -> Option<RouteSpec> {
        let request = RouteRequest {
            dest: IpNet::new(self.dest.0, self.dest.1).ok()?,
            gateway: self.gateway,
            source: self.source,
            device: device.clone(),
            scope: Some(Scope::try_from(u64::from(self.scope)).ok()?),
            metric: Some(self.metric),
            onlink: Onlink::from(self.onlink),
            mtu: match self.mtu {
                Some(mtu) => Some(RouteMtu::try_from(u64::from(mtu)).ok()?),
                None => None,
            },
            protocol: match self.protocol {
                Some(protocol) => Some(RouteProtocol::try_from(u64::from(protocol)).ok()?),
                None => None,
            },
            table: RouteTable::try_from(u64::from(self.table)).ok()?,
        };
        RouteSpec::new(request).ok()
    }

    /// Returns whether a guest that has this route by a card is not given the other one by another card.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        let is_default = self.dest.1 == 0;
        self.dest == other.dest && (is_default || self.metric == other.metric)
    }

    /// Returns the pattern of the route through this device; `None` if the journal has no network.
    pub(crate) fn pattern(&self, device: &LinkName) -> Option<RoutePattern> {
        let dest = IpNet::new(self.dest.0, self.dest.1).ok()?;
        let pattern = RoutePattern::open(Destination::Net(dest), Some(device.clone()));
        Some(RoutePattern {
            gateway: self.gateway,
            metric: Some(self.metric),
            table: RouteTable::try_from(u64::from(self.table)).ok()?,
            ..pattern
        })
    }
}

#[cfg(test)]
mod tests {
    use patchbay_types::RouteRequest;

    use super::*;

    #[test]
    fn recorded_route_matches_the_route_of_the_guest_alone() {
        let device: LinkName = "net1".parse().unwrap();
        let request = RouteRequest {
            gateway: Some("10.1.0.1".parse().unwrap()),
            ..RouteRequest::open("10.2.0.0/16".parse().unwrap(), device.clone())
        };
        let spec = RouteSpec::new(request).unwrap();
        let text = serde_json::to_string(&RouteRecord::list(std::slice::from_ref(&spec))).unwrap();
        assert_eq!(
            text,
            r#"[{"dest":["10.2.0.0",16],"metric":0,"scope":0,"gateway":"10.1.0.1","protocol":3,"onlink":false}]"#
        );
        let records: Vec<RouteRecord> = serde_json::from_str(&text).unwrap();
        let pattern = records[0].pattern(&device).unwrap();
        let route = spec.resolve();
        assert!(pattern.matches(&route));
        let other = "net2".parse().unwrap();
        assert!(!records[0].pattern(&other).unwrap().matches(&route));
        let metric = patchbay_types::Route { metric: 5, ..route };
        assert!(!pattern.matches(&metric));
    }

    #[test]
    fn recorded_route_of_every_field_is_requested_again() {
        let device: LinkName = "net1".parse().unwrap();
        let request = RouteRequest {
            gateway: Some("10.1.0.1".parse().unwrap()),
            source: Some("10.1.0.2".parse().unwrap()),
            metric: Some(7),
            onlink: Onlink::On,
            mtu: RouteMtu::try_from(1400).ok(),
            protocol: RouteProtocol::try_from(186).ok(),
            table: RouteTable::try_from(100).unwrap(),
            ..RouteRequest::open("10.2.0.0/16".parse().unwrap(), device.clone())
        };
        let spec = RouteSpec::new(request).unwrap();
        let record = RouteRecord::new(&spec);
        let text = serde_json::to_string(&record).unwrap();
        let again: RouteRecord = serde_json::from_str(&text).unwrap();
        let again = again.request(&device).unwrap();
        assert_eq!(again.resolve(), spec.resolve());
        let pattern = record.pattern(&device).unwrap();
        assert!(pattern.matches(&spec.resolve()));
    }

    #[test]
    fn route_excludes_another_default_route_or_one_of_its_metric() {
        let record = |dest: &str, metric| {
            let request = RouteRequest {
                metric: Some(metric),
                gateway: Some("10.1.0.1".parse().unwrap()),
                ..RouteRequest::open(dest.parse().unwrap(), "net1".parse().unwrap())
            };
            RouteRecord::new(&RouteSpec::new(request).unwrap())
        };
        for (one, other, is_excluded) in [
            (("0.0.0.0/0", 0), ("0.0.0.0/0", 100), true),
            (("10.2.0.0/16", 5), ("10.2.0.0/16", 5), true),
            (("10.2.0.0/16", 5), ("10.2.0.0/16", 6), false),
            (("10.2.0.0/16", 5), ("10.3.0.0/16", 5), false),
        ] {
            let [one, other] = [one, other].map(|(dest, metric)| record(dest, metric));
            assert_eq!(one.excludes(&other), is_excluded, "{one:?} {other:?}");
        }
    }
}
