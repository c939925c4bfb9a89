//! Requests and patterns against listed routes.

use super::*;

fn spec(dest: &str, gateway: Option<&str>, scope: Option<u64>) -> Result<RouteSpec, FieldError> {
    RouteSpec::new(RouteRequest {
        gateway: gateway.map(|ip| ip.parse().unwrap()),
        scope: scope.map(|number| Scope::try_from(number).unwrap()),
        ..RouteRequest::open(dest.parse().unwrap(), "eth1".parse().unwrap())
    })
}

#[test]
fn resolve_omitted_fields_uses_kernel_defaults() {
    let on_link = spec("172.17.10.10/24", None, None).unwrap().resolve();
    assert_eq!(on_link.to_string(), "172.17.10.0/24 dev eth1");
    assert_eq!((on_link.scope.get(), on_link.metric), (253, 0));
    let routed = spec("10.0.0.0/8", Some("10.0.0.1"), None)
        .unwrap()
        .resolve();
    assert_eq!((routed.scope.get(), routed.metric), (0, 0));
    let v6 = spec("fd01::/64", None, Some(0)).unwrap().resolve();
    assert_eq!((v6.scope.get(), v6.metric), (0, 1024));
}

#[test]
fn spec_conflicting_fields_names_the_field() {
    for (dest, gateway, scope, field, rule) in [
        ("10.0.0.0/8", Some("fd00::1"), None, "gateway", "families"),
        ("fd00::/64", Some("10.0.0.1"), None, "gateway", "families"),
        ("10.0.0.0/8", Some("0.0.0.0"), None, "gateway", "unicast"),
        ("10.0.0.0/8", Some("224.0.0.1"), None, "gateway", "unicast"),
        ("fd00::/64", None, Some(253), "scope", "no scope"),
    ] {
        let error = spec(dest, gateway, scope).unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().contains(rule), "{error}");
    }
}

#[test]
fn pattern_matches_only_its_own_fields() {
    let route = spec("172.16.0.0/16", Some("172.16.0.1"), None)
        .unwrap()
        .resolve();
    let net = Destination::Net("172.16.3.4/16".parse().unwrap());
    let pattern = RoutePattern::open(net, None);
    assert!(pattern.matches(&route));
    let in_table = RoutePattern {
        table: RouteTable::try_from(99).unwrap(),
        ..pattern.clone()
    };
    assert!(!in_table.matches(&route));
    let other = RoutePattern {
        gateway: Some("172.16.0.2".parse().unwrap()),
        ..pattern.clone()
    };
    assert!(!other.matches(&route));
    let default = RoutePattern {
        dest: Destination::Default,
        ..pattern
    };
    assert!(!default.matches(&route));
    for dest in ["0.0.0.0/0", "::/0"] {
        assert!(
            default.matches(&spec(dest, None, None).unwrap().resolve()),
            "{dest}"
        );
    }
}

fn connected(dest: &str, metric: u32) -> Route {
    Route {
        protocol: Some(RouteProtocol::KERNEL),
        metric,
        ..spec(dest, None, None).unwrap().resolve()
    }
}

#[test]
fn spec_without_metric_matches_connected_route() {
    let request = spec("fd00::/64", None, None).unwrap();
    assert!(request.matches(&connected("fd00::/64", 256)));
    let metric = |number| {
        let metric = Some(number);
        RouteSpec::new(RouteRequest {
            metric,
            ..request.fields().clone()
        })
        .unwrap()
    };
    assert!(metric(256).matches(&connected("fd00::/64", 256)));
    assert!(!metric(100).matches(&connected("fd00::/64", 256)));
    assert!(metric(0).matches(&request.resolve()));
    let routed = spec("fd00::/64", Some("fd00::1"), None).unwrap();
    assert!(!routed.matches(&connected("fd00::/64", 1024)));
}

#[test]
fn spec_creates_route_of_any_protocol_unless_given() {
    let request = spec("10.0.0.0/8", Some("10.0.0.1"), None).unwrap();
    let dhcp = RouteProtocol::try_from(16).ok();
    let by_dhcp = Route {
        protocol: dhcp,
        ..request.resolve()
    };
    assert!(request.creates(&by_dhcp));
    let given = RouteRequest {
        protocol: Some(RouteProtocol::BOOT),
        ..request.fields().clone()
    };
    assert!(!RouteSpec::new(given).unwrap().creates(&by_dhcp));
    let mtu = RouteMtu::try_from(1300).ok();
    assert!(!request.creates(&Route { mtu, ..by_dhcp }));
}

#[test]
fn spec_onlink_without_gateway_is_rejected() {
    let request = spec("10.0.0.0/8", None, None).unwrap().fields().clone();
    let onlink = RouteRequest {
        onlink: Onlink::On,
        ..request
    };
    assert_eq!(RouteSpec::new(onlink).unwrap_err().field(), "onlink");
}
