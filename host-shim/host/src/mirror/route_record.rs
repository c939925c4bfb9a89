//! Routes of a mirrored link in the journal, by which those that the link has lost are deleted in the
//! guest.

use std::net::IpAddr;

use ipnet::IpNet;
use patchbay_types::{
    Destination, LinkName, Onlink, RouteMtu, RoutePattern, RouteProtocol, RouteSpec,
};
use serde::{Deserialize, Serialize};

/// Route of the main table through a link, as the guest has it through the card.
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
        }
    }

    /// Returns the pattern of the route through this device; `None` if the journal has no network.
    pub(crate) fn pattern(&self, device: &LinkName) -> Option<RoutePattern> {
        let dest = IpNet::new(self.dest.0, self.dest.1).ok()?;
        let pattern = RoutePattern::open(Destination::Net(dest), Some(device.clone()));
        Some(RoutePattern {
            gateway: self.gateway,
            metric: Some(self.metric),
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
}
