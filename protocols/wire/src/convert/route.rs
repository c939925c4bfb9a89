//! Lists of routes and of patterns of them.

use crate::proto::agent as wire;
use patchbay_codec::{Packed, Reader};
use patchbay_types::{FieldError, InvalidValue, MAX_ROUTES, Route, RoutePattern, RouteSpec};

/// Routes to add, or all that there shall be.
#[must_use]
pub fn routes_request(specs: &[RouteSpec]) -> wire::RoutesRequest {
    wire::RoutesRequest {
        routes: packed(specs),
        ..wire::RoutesRequest::default()
    }
}

/// Reads them; a refusal names the route by its place.
pub fn specs(request: &wire::RoutesRequest) -> Result<Vec<RouteSpec>, FieldError> {
    all(&request.routes)
}

/// Routes to delete.
#[must_use]
pub fn delete_request(patterns: &[RoutePattern]) -> wire::DeleteRoutesRequest {
    wire::DeleteRoutesRequest {
        patterns: packed(patterns),
        ..wire::DeleteRoutesRequest::default()
    }
}

/// Reads them; a refusal names the pattern by its place.
pub fn patterns(request: &wire::DeleteRoutesRequest) -> Result<Vec<RoutePattern>, FieldError> {
    all(&request.patterns)
}

/// The routes that a guest has.
#[must_use]
pub fn routes_reply(routes: &[Route]) -> wire::ListRoutesReply {
    wire::ListRoutesReply {
        routes: packed(routes),
        ..wire::ListRoutesReply::default()
    }
}

/// Reads a guest's whole answer.
pub fn routes(reply: &wire::ListRoutesReply) -> Result<Vec<Route>, FieldError> {
    all(&reply.routes)
}

fn packed(values: &[impl Packed]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.pack(&mut out);
    }
    out
}

fn all<T: Packed>(bytes: &[u8]) -> Result<Vec<T>, FieldError> {
    let mut reader = Reader::new(bytes);
    let mut read = Vec::new();
    while !reader.is_empty() {
        if read.len() == MAX_ROUTES {
            let rule = "at most 32768 routes are taken";
            return Err(InvalidValue::new("more", rule).in_field("routes"));
        }
        let place = |bad: FieldError| bad.nested_in(&format!("[{}]", read.len()));
        let value = T::unpack(&mut reader).map_err(place)?;
        read.push(value);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use protobuf::Message;

    use super::*;
    use patchbay_types::{Destination, RouteRequest, Scope};

    prop_compose! {
        fn a_route()(
            ips: [[u8; 16]; 3], bits in 0..=32u8, v4: bool, gateway: bool, source: bool,
            device in "[A-Za-z][A-Za-z0-9_.-]{0,14}",
            scope in option::of(0..255u64), metric: Option<u32>,
        ) -> Option<RouteSpec> {
            let [dest, router, own] = ips.map(|ip| {
                if v4 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) }
            });
            RouteSpec::new(RouteRequest {
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
                dest: if named { Destination::Net(route.fields().dest) } else { Destination::Default },
                gateway: route.fields().gateway,
                source: route.fields().source,
                device: named.then(|| route.fields().device.clone()),
                scope: route.fields().scope,
                metric: route.fields().metric,
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

    fn route() -> RouteSpec {
        RouteSpec::new(RouteRequest {
            dest: "10.0.0.0/8".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            source: None,
            device: "eth1".parse().unwrap(),
            scope: None,
            metric: Some(300),
        })
        .unwrap()
    }

    /// The layout is what a peer of another build reads, so it is written down here.
    #[test]
    fn a_route_has_these_bytes() {
        let bytes = [
            &[4, 10, 0, 0, 0, 8][..],
            &[4, 10, 0, 0, 1, 0],
            b"\x04eth1",
            &[0, 1, 0xac, 2],
        ];
        assert_eq!(packed(&[route()]), bytes.concat());
    }

    #[test]
    fn each_bad_field_is_named_with_its_place() {
        // Where in the bytes above, and what stands there instead.
        let cases: [(&str, usize, &[u8]); 7] = [
            ("[1].dest", 5, &[33]),
            ("[1].dest", 0, &[0]),
            ("[1].gateway", 6, &[5]),
            ("[1].gateway", 7, &[224]),
            ("[1].device", 14, b" "),
            ("[1].scope", 17, &[1, 255]),
            ("[1].metric", 18, &[2]),
        ];
        for (field, at, bytes) in cases {
            let mut routes = packed(&[route(), route()]);
            let at = at + routes.len() / 2;
            routes[at..at + bytes.len()].copy_from_slice(bytes);
            let request = wire::RoutesRequest {
                routes,
                ..wire::RoutesRequest::default()
            };
            assert_eq!(specs(&request).unwrap_err().field(), field);
        }
    }

    #[test]
    fn the_most_and_largest_routes_fit_one_message() {
        let large = Route {
            dest: "2001:db8::ffff/128".parse().unwrap(),
            gateway: Some("2001:db8::1".parse().unwrap()),
            source: Some("2001:db8::2".parse().unwrap()),
            device: "a".repeat(15),
            scope: Scope::try_from(254).unwrap(),
            metric: u32::MAX,
        };
        let mut listed = vec![large.clone(); MAX_ROUTES];
        let reply = routes_reply(&listed);
        assert!(reply.write_to_bytes().unwrap().len() < 3 << 20);
        assert_eq!(routes(&reply).unwrap(), listed);
        listed.push(large);
        assert_eq!(
            routes(&routes_reply(&listed)).unwrap_err().field(),
            "routes"
        );
    }
}
