//! Lists of routes and of patterns.

use crate::proto::agent as wire;
use patchbay_codec::{Bulk, Layered, Packed, Reader, routes_for_layout};
use patchbay_types::{FieldError, InvalidValue, MAX_ROUTES, Route, RoutePattern, RouteSpec};

/// Builds the request that adds routes or replaces the existing ones.
#[must_use]
pub fn routes_request(specs: &[RouteSpec]) -> wire::RoutesRequest {
    let (routes, layout) = encode(specs);
    wire::RoutesRequest {
        routes,
        layout,
        ..wire::RoutesRequest::default()
    }
}

/// Decodes a request that adds or replaces routes. Errors name the position of the route.
pub fn specs(request: &wire::RoutesRequest) -> Result<Vec<RouteSpec>, FieldError> {
    decode(&request.routes, request.layout)
}

/// Builds the request that deletes routes.
#[must_use]
pub fn delete_request(patterns: &[RoutePattern]) -> wire::DeleteRoutesRequest {
    let (patterns, layout) = encode(patterns);
    wire::DeleteRoutesRequest {
        patterns,
        layout,
        ..wire::DeleteRoutesRequest::default()
    }
}

/// Decodes a request that deletes routes. Errors name the position of the pattern.
pub fn patterns(request: &wire::DeleteRoutesRequest) -> Result<Vec<RoutePattern>, FieldError> {
    decode(&request.patterns, request.layout)
}

/// Builds the request that lists routes.
#[must_use]
pub fn list_request() -> wire::ListRoutesRequest {
    wire::ListRoutesRequest {
        max_layout: Bulk::Routes.layout(),
        ..wire::ListRoutesRequest::default()
    }
}

/// Builds the reply that lists routes to a host that reads layouts up to `max_layout`.
#[must_use]
pub fn routes_reply(routes: &[Route], max_layout: u32) -> wire::ListRoutesReply {
    let (routes, layout) = encode(&routes_for_layout(routes, max_layout));
    wire::ListRoutesReply {
        routes,
        layout,
        ..wire::ListRoutesReply::default()
    }
}

/// Decodes a list of routes.
pub fn routes(reply: &wire::ListRoutesReply) -> Result<Vec<Route>, FieldError> {
    decode(&reply.routes, reply.layout)
}

/// Encodes values in the lowest layout that expresses all of them.
fn encode(values: &[impl Layered]) -> (Vec<u8>, u32) {
    let (mut out, mut layout) = (Vec::new(), 0);
    for value in values {
        value.pack(&mut out);
        layout = layout.max(value.layout());
    }
    (out, layout)
}

fn decode<T: Packed>(bytes: &[u8], layout: u32) -> Result<Vec<T>, FieldError> {
    Bulk::Routes.check(layout)?;
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.is_empty() {
        if values.len() == MAX_ROUTES {
            let rule = "at most 32768 routes are accepted";
            return Err(InvalidValue::new("more", rule).in_field("routes"));
        }
        let position = |bad: FieldError| bad.nested_in(&format!("[{}]", values.len()));
        let value = T::unpack(&mut reader).map_err(position)?;
        values.push(value);
    }
    Ok(values)
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
    use patchbay_types::{
        Destination, LinkName, Onlink, RouteMtu, RouteProtocol, RouteRequest, RouteTable, Scope,
    };

    prop_compose! {
        fn a_route()(
            ips: [[u8; 16]; 3], bits in 0..=32u8, v4: bool, gateway: bool, source: bool,
            device in vec(any::<u8>(), 1..16),
            scope in option::of(0..255u64), metric: Option<u32>, onlink: bool,
            added: [Option<u32>; 3],
        ) -> Option<RouteSpec> {
            let [mtu, protocol, table] = added.map(|number| number.map(u64::from));
            let [dest, router, own] = ips.map(|ip| {
                if v4 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) }
            });
            RouteSpec::new(RouteRequest {
                dest: IpNet::new(dest, bits).unwrap(),
                gateway: gateway.then_some(router),
                source: source.then_some(own),
                device: LinkName::try_from(&device[..]).ok()?,
                scope: scope.and_then(|number| Scope::try_from(number).ok()),
                metric,
                onlink: Onlink::from(onlink && gateway),
                mtu: mtu.and_then(|number| RouteMtu::try_from(number % 65521).ok()),
                protocol: protocol.and_then(|number| RouteProtocol::try_from(number % 256).ok()),
                table: table.map_or(RouteTable::MAIN, |number| RouteTable::try_from(number | 1).unwrap()),
            }).ok()
        }
    }

    proptest! {
        #[test]
        fn routes_round_trip(asked in vec(a_route(), 0..20)) {
            let asked: Vec<RouteSpec> = asked.into_iter().flatten().collect();
            let bytes = routes_request(&asked).write_to_bytes().unwrap();
            let read = wire::RoutesRequest::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(specs(&read).unwrap(), asked.clone());
            let listed: Vec<Route> = asked.iter().map(RouteSpec::resolve).collect();
            let bytes = routes_reply(&listed, 1).write_to_bytes().unwrap();
            let read = wire::ListRoutesReply::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(routes(&read).unwrap(), listed);
        }

        #[test]
        fn patterns_round_trip(route in a_route(), named: bool) {
            let Some(route) = route else { return Ok(()) };
            let fields = route.fields().clone();
            let dest = if named { Destination::Net(fields.dest) } else { Destination::Default };
            let device = named.then(|| fields.device.clone());
            let pattern = fields.with_dest_and_device(dest, device);
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
            gateway: Some("10.0.0.1".parse().unwrap()),
            metric: Some(300),
            ..RouteRequest::open("10.0.0.0/8".parse().unwrap(), "eth1".parse().unwrap())
        })
        .unwrap()
    }

    /// The same with every field of layout 1.
    fn extended_route() -> RouteSpec {
        RouteSpec::new(RouteRequest {
            onlink: Onlink::On,
            mtu: RouteMtu::try_from(1300).ok(),
            protocol: RouteProtocol::try_from(186).ok(),
            table: RouteTable::try_from(99).unwrap(),
            ..route().fields().clone()
        })
        .unwrap()
    }

    /// The layout that peers of other releases read.
    #[test]
    fn route_bytes_are_stable() {
        let bytes = [
            &[4, 10, 0, 0, 0, 8][..],
            &[4, 10, 0, 0, 1, 0],
            b"\x04eth1",
            &[0, 1, 0xac, 2],
        ];
        assert_eq!(encode(&[route()]), (bytes.concat(), 0));
        let extended = [&[1, 15][..], &bytes.concat(), &[0x94, 10, 0xba, 1, 99]];
        assert_eq!(encode(&[extended_route()]), (extended.concat(), 1));
    }

    #[test]
    fn specs_invalid_field_names_its_position() {
        // Offset in the bytes above, and their replacement.
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
            let (mut routes, _) = encode(&[route(), route()]);
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
    fn specs_unknown_added_field_is_rejected() {
        for routes in [&[1, 16, 4][..], &[1]] {
            let request = wire::RoutesRequest {
                routes: routes.to_vec(),
                layout: 1,
                ..wire::RoutesRequest::default()
            };
            assert_eq!(specs(&request).unwrap_err().field(), "[0].fields");
        }
    }

    #[test]
    fn request_layout_is_the_lowest_possible() {
        let named = |device: &str| {
            let device = device.parse().unwrap();
            RouteSpec::new(RouteRequest {
                device,
                ..route().fields().clone()
            })
            .unwrap()
        };
        for (specs, layout) in [
            (vec![route(), named("eth2")], 0),
            (vec![route(), extended_route()], 1),
            (vec![route(), named("wg=0")], 1),
        ] {
            assert_eq!(routes_request(&specs).layout, layout, "{specs:?}");
        }
    }

    #[test]
    fn routes_reply_to_old_host_has_layout_0() {
        let device = |bytes: &[u8]| Route {
            device: LinkName::try_from(bytes).unwrap(),
            ..route().resolve()
        };
        let in_main = Route {
            table: RouteTable::MAIN,
            ..extended_route().resolve()
        };
        let listed = [
            device(b"wg=0"),
            device(b"\xff"),
            extended_route().resolve(),
            in_main,
        ];
        let reply = routes_reply(&listed, 0);
        let read = routes(&reply).unwrap();
        let plain = Route {
            protocol: None,
            ..route().resolve()
        };
        let other_name = Route {
            protocol: None,
            ..device(b"wg=0")
        };
        assert_eq!((reply.layout, read), (0, vec![other_name, plain]));
    }

    #[test]
    fn routes_reply_of_maximum_size_fits() {
        let large = Route {
            dest: "2001:db8::ffff/128".parse().unwrap(),
            gateway: Some("2001:db8::1".parse().unwrap()),
            source: Some("2001:db8::2".parse().unwrap()),
            device: "a".repeat(15).parse().unwrap(),
            scope: Scope::try_from(254).unwrap(),
            metric: u32::MAX,
            onlink: Onlink::On,
            mtu: RouteMtu::try_from(65520).ok(),
            protocol: RouteProtocol::try_from(255).ok(),
            table: RouteTable::try_from(u64::from(u32::MAX)).unwrap(),
        };
        let mut listed = vec![large.clone(); MAX_ROUTES];
        let reply = routes_reply(&listed, 1);
        assert!(reply.write_to_bytes().unwrap().len() < 3 << 20);
        assert_eq!(routes(&reply).unwrap(), listed);
        listed.push(large);
        assert_eq!(
            routes(&routes_reply(&listed, 1)).unwrap_err().field(),
            "routes"
        );
    }
}
