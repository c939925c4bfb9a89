//! Routes and patterns of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{ip, ip_bytes, prefix};
use crate::model::{
    BadValue, Destination, IfName, Invalid, MAX_ROUTES, Route, RouteParts, RoutePattern, RouteSpec,
    Scope, Way,
};
use crate::wire::agent as wire;

fn optional_bytes(ip: Option<IpAddr>) -> Vec<u8> {
    ip.map(ip_bytes).unwrap_or_default()
}

fn optional_ip(bytes: &[u8], field: &str) -> Result<Option<IpAddr>, Invalid> {
    match bytes {
        [] => Ok(None),
        some => ip(some).map(Some).map_err(|bad| bad.at(field)),
    }
}

fn net(address: &[u8], bits: u32) -> Result<IpNet, Invalid> {
    let net = || {
        let (address, bits) = (ip(address)?, prefix(bits)?);
        let rule = "a prefix has at most 32 (IPv4) or 128 (IPv6) bits";
        IpNet::new(address, bits).map_err(|_| BadValue::new(&format!("{address}/{bits}"), rule))
    };
    net().map_err(|bad| bad.at("dest"))
}

fn scope(number: Option<u32>) -> Result<Option<Scope>, Invalid> {
    let scope = number.map(|number| Scope::try_from(u64::from(number)));
    scope.transpose().map_err(|bad| bad.at("scope"))
}

fn way(way: &Way) -> wire::Route {
    let dest = way.dest();
    wire::Route {
        dest: ip_bytes(dest.addr()),
        prefix: u32::from(dest.prefix_len()),
        gateway: optional_bytes(way.gateway()),
        source: optional_bytes(way.source()),
        ..wire::Route::default()
    }
}

impl From<&RouteSpec> for wire::Route {
    fn from(spec: &RouteSpec) -> Self {
        Self {
            device: spec.device().to_string(),
            scope: spec.scope().map(|scope| u32::from(scope.get())),
            metric: spec.metric(),
            ..way(spec.way())
        }
    }
}

impl TryFrom<&wire::Route> for RouteSpec {
    type Error = Invalid;

    fn try_from(route: &wire::Route) -> Result<Self, Invalid> {
        let wire::Route {
            dest,
            prefix,
            gateway,
            source,
            device,
            scope: number,
            metric,
            special_fields: _,
        } = route;
        RouteSpec::new(RouteParts {
            dest: net(dest, *prefix)?,
            gateway: optional_ip(gateway, "gateway")?,
            source: optional_ip(source, "source")?,
            device: device.parse::<IfName>().map_err(|bad| bad.at("device"))?,
            scope: scope(*number)?,
            metric: *metric,
        })
    }
}

impl From<&Route> for wire::Route {
    fn from(route: &Route) -> Self {
        Self {
            device: route.device.clone(),
            scope: Some(u32::from(route.scope)),
            metric: Some(route.metric),
            ..way(&route.way)
        }
    }
}

impl TryFrom<&wire::Route> for Route {
    type Error = Invalid;

    fn try_from(route: &wire::Route) -> Result<Self, Invalid> {
        let wire::Route {
            dest,
            prefix,
            gateway,
            source,
            device,
            scope,
            metric,
            special_fields: _,
        } = route;
        if device.is_empty() || device.len() > 15 {
            let rule = "the kernel's names have 1 to 15 bytes";
            return Err(BadValue::new(device, rule).at("device"));
        }
        let number = scope.unwrap_or_default();
        let scope = u8::try_from(number)
            .map_err(|_| BadValue::new(&number.to_string(), "a scope has 8 bits").at("scope"))?;
        let gateway = optional_ip(gateway, "gateway")?;
        Ok(Self {
            way: Way::new(net(dest, *prefix)?, gateway, optional_ip(source, "source")?)?,
            device: device.clone(),
            scope,
            metric: metric.unwrap_or_default(),
        })
    }
}

impl From<&RoutePattern> for wire::RoutePattern {
    fn from(pattern: &RoutePattern) -> Self {
        let RoutePattern {
            dest,
            gateway,
            source,
            device,
            scope,
            metric,
        } = pattern;
        let (dest, prefix) = match dest {
            Destination::Default => (Vec::new(), 0),
            Destination::Net(net) => (ip_bytes(net.addr()), u32::from(net.prefix_len())),
        };
        Self {
            dest,
            prefix,
            gateway: optional_bytes(*gateway),
            source: optional_bytes(*source),
            device: device.as_ref().map(ToString::to_string).unwrap_or_default(),
            scope: scope.map(|scope| u32::from(scope.get())),
            metric: *metric,
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::RoutePattern> for RoutePattern {
    type Error = Invalid;

    fn try_from(pattern: &wire::RoutePattern) -> Result<Self, Invalid> {
        let wire::RoutePattern {
            dest,
            prefix,
            gateway,
            source,
            device,
            scope: number,
            metric,
            special_fields: _,
        } = pattern;
        let device = match device.as_str() {
            "" => None,
            name => Some(name.parse::<IfName>().map_err(|bad| bad.at("device"))?),
        };
        Ok(Self {
            dest: match dest.as_slice() {
                [] => Destination::Default,
                some => Destination::Net(net(some, *prefix)?),
            },
            gateway: optional_ip(gateway, "gateway")?,
            source: optional_ip(source, "source")?,
            device,
            scope: scope(*number)?,
            metric: *metric,
        })
    }
}

/// Routes to add, or all that there shall be.
pub fn routes_request(specs: &[RouteSpec]) -> wire::RoutesRequest {
    wire::RoutesRequest {
        routes: specs.iter().map(Into::into).collect(),
        ..wire::RoutesRequest::default()
    }
}

/// Reads them; a refusal names the route by its place.
pub fn specs(request: &wire::RoutesRequest) -> Result<Vec<RouteSpec>, Invalid> {
    all(&request.routes)
}

/// Routes to delete.
pub fn delete_request(patterns: &[RoutePattern]) -> wire::DeleteRoutesRequest {
    wire::DeleteRoutesRequest {
        patterns: patterns.iter().map(Into::into).collect(),
        ..wire::DeleteRoutesRequest::default()
    }
}

/// Reads them; a refusal names the pattern by its place.
pub fn patterns(request: &wire::DeleteRoutesRequest) -> Result<Vec<RoutePattern>, Invalid> {
    all(&request.patterns)
}

/// The routes that a guest has.
pub fn routes_reply(routes: &[Route]) -> wire::ListRoutesReply {
    wire::ListRoutesReply {
        routes: routes.iter().map(Into::into).collect(),
        ..wire::ListRoutesReply::default()
    }
}

/// Reads a guest's whole answer.
pub fn routes(reply: &wire::ListRoutesReply) -> Result<Vec<Route>, Invalid> {
    all(&reply.routes)
}

fn all<'a, W, T>(wire: &'a [W]) -> Result<Vec<T>, Invalid>
where
    T: TryFrom<&'a W, Error = Invalid>,
{
    if wire.len() > MAX_ROUTES {
        let count = BadValue::new(&wire.len().to_string(), "at most 32768 routes are taken");
        return Err(count.at("routes"));
    }
    wire.iter()
        .enumerate()
        .map(|(index, one)| T::try_from(one).map_err(|bad| bad.within(&format!("[{index}]"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use protobuf::Message;

    use super::*;

    prop_compose! {
        fn a_route()(
            ips: [[u8; 16]; 3], bits in 0..=32u8, v4: bool, gateway: bool, source: bool,
            device in "[A-Za-z][A-Za-z0-9_.-]{0,14}",
            scope in option::of(0..255u64), metric: Option<u32>,
        ) -> Option<RouteSpec> {
            let [dest, router, own] = ips.map(|ip| {
                if v4 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) }
            });
            RouteSpec::new(RouteParts {
                dest: IpNet::new(dest, bits).unwrap(),
                gateway: gateway.then_some(router),
                source: source.then_some(own),
                device: device.parse().unwrap(),
                scope: scope.and_then(|number| Scope::try_from(number).ok()),
                metric,
            }).ok()
        }
    }

    proptest! {
        #[test]
        fn routes_survive_the_wire(asked in vec(a_route(), 0..20)) {
            let asked: Vec<RouteSpec> = asked.into_iter().flatten().collect();
            let bytes = routes_request(&asked).write_to_bytes().unwrap();
            let read = wire::RoutesRequest::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(specs(&read).unwrap(), asked.clone());
            let listed: Vec<Route> = asked.iter().map(RouteSpec::resolve).collect();
            let bytes = routes_reply(&listed).write_to_bytes().unwrap();
            let read = wire::ListRoutesReply::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(routes(&read).unwrap(), listed);
        }

        #[test]
        fn patterns_survive_the_wire(route in a_route(), named: bool) {
            let Some(route) = route else { return Ok(()) };
            let pattern = RoutePattern {
                dest: if named { Destination::Net(route.way().dest()) } else { Destination::Default },
                gateway: route.way().gateway(),
                source: route.way().source(),
                device: named.then(|| route.device().clone()),
                scope: route.scope(),
                metric: route.metric(),
            };
            let bytes = delete_request(std::slice::from_ref(&pattern)).write_to_bytes().unwrap();
            let read = wire::DeleteRoutesRequest::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(patterns(&read).unwrap(), vec![pattern]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(request) = wire::RoutesRequest::parse_from_bytes(&bytes) {
                let _ = specs(&request);
            }
            if let Ok(request) = wire::DeleteRoutesRequest::parse_from_bytes(&bytes) {
                let _ = patterns(&request);
            }
            if let Ok(reply) = wire::ListRoutesReply::parse_from_bytes(&bytes) {
                let _ = routes(&reply);
            }
        }
    }

    fn route() -> wire::Route {
        wire::Route {
            dest: vec![10, 0, 0, 0],
            prefix: 8,
            device: "eth1".to_owned(),
            ..wire::Route::default()
        }
    }

    #[test]
    fn each_bad_field_is_named_with_its_place() {
        type Break = fn(&mut wire::Route);
        let cases: [(&str, Break); 6] = [
            ("[1].dest", |r| r.prefix = 33),
            ("[1].dest", |r| r.dest.clear()),
            ("[1].gateway", |r| r.gateway = vec![1, 2, 3]),
            ("[1].source", |r| r.source = vec![0; 16]),
            ("[1].device", |r| r.device = "a b".to_owned()),
            ("[1].scope", |r| r.scope = Some(255)),
        ];
        for (field, break_it) in cases {
            let mut bad = route();
            break_it(&mut bad);
            let request = wire::RoutesRequest {
                routes: vec![route(), bad],
                ..wire::RoutesRequest::default()
            };
            assert_eq!(specs(&request).unwrap_err().field(), field);
        }
    }

    #[test]
    fn the_most_and_largest_routes_fit_one_message() {
        let large = wire::Route {
            dest: vec![0xff; 16],
            prefix: 128,
            gateway: vec![0xfe; 16],
            source: vec![0xfe; 16],
            device: "a".repeat(15),
            scope: Some(254),
            metric: Some(u32::MAX),
            ..wire::Route::default()
        };
        let mut request = wire::RoutesRequest {
            routes: vec![large; MAX_ROUTES],
            ..wire::RoutesRequest::default()
        };
        assert!(request.write_to_bytes().unwrap().len() < 4 << 20);
        request.routes.push(route());
        assert_eq!(specs(&request).unwrap_err().field(), "routes");
    }
}
