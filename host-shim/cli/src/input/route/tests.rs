//! Route documents of the `kata-network` commands.

use std::io::Write;

use patchbay_types::failure::Kind;
use patchbay_types::{RouteRequest, Scope};
use proptest::prelude::*;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn added(text: &str) -> Result<String, Failure> {
    let echo = to_add(file(text).path())?.into_iter().map(|(_, echo)| echo);
    Ok(serde_json::to_string(&echo.collect::<Vec<_>>()).unwrap())
}

/// Reads a document for each command of routes.
pub(in crate::input) fn read_all(document: &Value) -> [(&'static str, Result<(), Failure>); 3] {
    let file = file(&document.to_string());
    [
        ("add-route", to_add(file.path()).map(drop)),
        ("del-route", to_delete(file.path()).map(drop)),
        ("update-routes", wanted(file.path()).map(drop)),
    ]
}

#[test]
fn add_echo_can_be_added_again() {
    for (text, echo) in [
        (
            r#"{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}"#,
            r#"[{"dest":"default","gateway":"172.16.0.1","device":"eth-test"}]"#,
        ),
        (
            r#"{"dest":"172.17.10.10/24","gateway":"","device":"eth1"}"#,
            r#"[{"dest":"172.17.10.10/24","device":"eth1"}]"#,
        ),
        (
            r#"[{"DEST":"10.1.2.3","Device":"lo","other":[1]}]"#,
            r#"[{"dest":"10.1.2.3/32","device":"lo"}]"#,
        ),
        (
            r#"{"dest":"FD00::1","gateway":" fe80::1 ","device":"e","metric":5}"#,
            r#"[{"dest":"FD00::1/128","gateway":"fe80::1","device":"e","metric":5}]"#,
        ),
        (
            r#"{"dest":"10.0.0.0/8","device":"e","source":"10.0.0.2","scope":253}"#,
            r#"[{"dest":"10.0.0.0/8","device":"e","source":"10.0.0.2","scope":253}]"#,
        ),
        (
            r#"{"dest":"10.0.0.0/8","gateway":"10.0.0.1","device":"wg=0","table":99,"mtu":1300,"protocol":4,"onlink":true}"#,
            r#"[{"dest":"10.0.0.0/8","gateway":"10.0.0.1","device":"wg=0","table":99,"mtu":1300,"protocol":4,"onlink":true}]"#,
        ),
        // Kata's document.
        (
            r#"{"dest":"fd00::/64","gateway":"fe80::1","device":"e","source":"","scope":0,"family":1,"flags":4,"mtu":0}"#,
            r#"[{"dest":"fd00::/64","gateway":"fe80::1","device":"e","scope":0,"mtu":0,"flags":4,"family":1}]"#,
        ),
    ] {
        assert_eq!(added(text).unwrap(), echo);
        assert_eq!(added(echo).unwrap(), echo);
    }
}

#[track_caller]
fn assert_invalid(cases: &[(&str, &str, &str)]) {
    for (text, field, rule) in cases {
        let failure = added(text).unwrap_err();
        assert_eq!(failure.kind(), Kind::Invalid, "{text}");
        assert_eq!(failure.field(), Some(*field), "{text}");
        assert!(failure.to_string().contains(rule), "{text}: {failure}");
    }
}

#[test]
fn add_missing_field_names_its_position() {
    assert_invalid(&[
        (r#"{"device":"e"}"#, "dest", ROUTE_INCOMPLETE),
        (r#"{"dest":"10.0.0.0/8"}"#, "device", ROUTE_INCOMPLETE),
        (r#"{"dest":"default","device":"e"}"#, "gateway", "specified"),
        (
            r#"[{"dest":"::","device":"e"},{}]"#,
            "[1].dest",
            ROUTE_INCOMPLETE,
        ),
    ]);
}

#[test]
fn add_invalid_field_names_its_rule() {
    let ip = "invalid IP: ";
    let net = "invalid input of IP";
    let name = "15 bytes";
    assert_invalid(&[
        (r#"{"dest":"10.0.0.0/33","device":"e"}"#, "dest", net),
        (r#"{"dest":"10.0.0.0/+8","device":"e"}"#, "dest", net),
        (r#"{"dest":"10.0.0/8","device":"e"}"#, "dest", net),
        (
            r#"{"dest":"::","device":"e","gateway":"10"}"#,
            "gateway",
            ip,
        ),
        (r#"{"dest":"::","device":"e","source":"x"}"#, "source", ip),
        (
            r#"{"dest":"::","device":"eeeeeeeeeeeeeeee"}"#,
            "device",
            name,
        ),
        (r#"{"dest":"::","device":" e"}"#, "device", name),
        (
            r#"{"dest":"0.0.0.0","device":"e","scope":255}"#,
            "scope",
            "254",
        ),
        (
            r#"{"dest":"::","device":"e","gateway":"1.1.1.1"}"#,
            "gateway",
            "families",
        ),
    ]);
}

#[test]
fn add_unsupported_field_names_its_rule() {
    let with = |members: &str| {
        let text =
            format!(r#"{{"dest":"10.0.0.0/8","gateway":"10.0.0.1","device":"e",{members}}}"#);
        let failure = added(&text).unwrap_err();
        assert_eq!(failure.kind(), Kind::Invalid, "{text}");
        (
            failure.field().unwrap_or_default().to_owned(),
            failure.to_string(),
        )
    };
    for (members, field, rule) in [
        (r#""flags":16"#, "flags", "only 4 (onlink)"),
        (r#""flags":5"#, "flags", "only 4 (onlink)"),
        (r#""family":"v6""#, "family", "family of the addresses"),
        (r#""family":3"#, "family", r#"2 or "v4""#),
        (r#""type":"blackhole""#, "type", "unicast"),
        (r#""mtu":65521"#, "mtu", "1 to 65520"),
        (r#""protocol":256"#, "protocol", "1 to 255"),
    ] {
        let (found, message) = with(members);
        assert_eq!(found, field, "{message}");
        assert!(message.contains(rule), "{message}");
    }
    let failure = added(r#"{"dest":"10.0.0.0/8","device":"e","flags":4}"#).unwrap_err();
    assert_eq!(failure.field(), Some("onlink"));
}

#[test]
fn family_selects_default_route() {
    let wanted = |text| wanted(file(text).path()).unwrap().unwrap();
    let v6 = wanted(r#"[{"device":"eth1","family":1}]"#);
    assert_eq!(v6[0].0.fields().dest.to_string(), "::/0");
    let deleted = |text| to_delete(file(text).path()).unwrap().remove(0).0.dest;
    assert_eq!(deleted(r#"{"dest":"default"}"#), Destination::Default);
    let v4 = deleted(r#"{"dest":"default","family":"v4"}"#);
    assert_eq!(v4, Destination::Net("0.0.0.0/0".parse().unwrap()));
}

/// A route as the agent lists it.
fn listed(dest: &str, gateway: &str, protocol: u64) -> Route {
    let request = RouteRequest {
        gateway: gateway.parse().ok(),
        source: "172.16.0.3".parse().ok().filter(|_| !dest.contains(':')),
        protocol: RouteProtocol::try_from(protocol).ok(),
        ..RouteRequest::open(dest.parse().unwrap(), "eth1".parse().unwrap())
    };
    RouteSpec::new(request).unwrap().resolve()
}

#[test]
fn listed_route_omits_defaults() {
    let v6 = |metric| Route {
        metric,
        ..listed("fd00::/64", "", 2)
    };
    let full = Route {
        scope: Scope::try_from(200).unwrap(),
        metric: 100,
        onlink: Onlink::On,
        mtu: RouteMtu::try_from(1300).ok(),
        table: RouteTable::try_from(99).unwrap(),
        ..listed("10.0.0.0/8", "10.0.0.1", 16)
    };
    let old_agent = Route {
        protocol: None,
        ..listed("172.16.0.0/16", "", 2)
    };
    let connected = r#"{"dest":"172.16.0.0/16","device":"eth1"}"#;
    for (route, json) in [
        (listed("172.16.0.0/16", "", 2), connected),
        (old_agent, connected),
        (
            v6(256),
            r#"{"dest":"fd00::/64","device":"eth1","metric":256}"#,
        ),
        (v6(1024), r#"{"dest":"fd00::/64","device":"eth1"}"#),
        (
            listed("0.0.0.0/0", "172.16.0.1", 3),
            r#"{"dest":"default","gateway":"172.16.0.1","device":"eth1","source":"172.16.0.3"}"#,
        ),
        (
            listed("::/0", "", 4),
            r#"{"dest":"::/0","device":"eth1","protocol":4}"#,
        ),
        (
            full,
            r#"{"dest":"10.0.0.0/8","gateway":"10.0.0.1","device":"eth1","source":"172.16.0.3","scope":200,"metric":100,"table":99,"mtu":1300,"protocol":16,"onlink":true}"#,
        ),
    ] {
        assert_eq!(
            serde_json::to_string(&RouteText::from(&route)).unwrap(),
            json
        );
    }
}

fn any_route() -> impl Strategy<Value = Route> {
    let ips = any::<([u8; 16], [u8; 16], [u8; 16])>();
    let flags = any::<[bool; 5]>();
    let numbers = (
        0..=32u8,
        0..255u64,
        any::<u32>(),
        0..65521u64,
        1..256u64,
        1..=u64::from(u32::MAX),
    );
    (ips, flags, numbers).prop_filter_map("a valid route", |(ips, flags, numbers)| {
        let [v4, gateway, source, onlink, main] = flags;
        let (bits, scope, metric, mtu, protocol, table) = numbers;
        let [dest, router, own] = [ips.0, ips.1, ips.2].map(|ip| {
            if v4 {
                IpAddr::from([ip[0], ip[1], ip[2], ip[3]])
            } else {
                IpAddr::from(ip)
            }
        });
        let request = RouteRequest {
            gateway: gateway.then_some(router),
            source: source.then_some(own),
            scope: Scope::try_from(if v4 { scope } else { 0 }).ok(),
            metric: Some(metric),
            onlink: Onlink::from(onlink && gateway),
            mtu: RouteMtu::try_from(mtu).ok(),
            protocol: RouteProtocol::try_from(protocol).ok(),
            table: if main {
                RouteTable::MAIN
            } else {
                RouteTable::try_from(table).unwrap()
            },
            ..RouteRequest::open(IpNet::new(dest, bits).unwrap(), r"wg=\xff".parse().unwrap())
        };
        Some(RouteSpec::new(request).ok()?.resolve())
    })
}

proptest! {
    /// A listed route is a request that is satisfied by the same route, and a pattern that matches it.
    #[test]
    fn listed_route_is_request_and_pattern(route in any_route()) {
        for text in [RouteText::from(&route), RouteText::complete(&route)] {
            let (spec, _) = text.wanted_route().unwrap();
            prop_assert!(spec.matches(&route), "{text:?} {route:?}");
            prop_assert!(route.is_connected() || spec.creates(&route), "{text:?} {route:?}");
            let (pattern, _) = text.pattern().unwrap();
            prop_assert!(pattern.matches(&route), "{text:?} {route:?}");
        }
        let (complete, _) = RouteText::complete(&route).wanted_route().unwrap();
        prop_assert!(complete.creates(&route));
    }
}

#[test]
fn add_document_without_routes_fails() {
    for text in ["null", "7", "[null]", "[[]]", r#"{"dest":5}"#, "", "{"] {
        assert_eq!(added(text).unwrap_err().kind(), Kind::Invalid, "{text}");
    }
    assert_eq!(added("[]").unwrap(), "[]");
}

#[test]
fn update_accepts_null_and_requires_prefixes() {
    let wanted = |text| wanted(file(text).path());
    assert_eq!(wanted("null").unwrap(), None);
    assert_eq!(wanted("[]").unwrap(), Some(vec![]));
    let default = wanted(r#"[{"device":"eth1","scope":1}]"#).unwrap().unwrap();
    assert_eq!(default[0].0.fields().dest.to_string(), "0.0.0.0/0");
    let failure = wanted(r#"[{"dest":"10.1.2.3","device":"eth1"}]"#).unwrap_err();
    assert_eq!(failure.field(), Some("[0].dest"));
    assert!(
        failure
            .to_string()
            .contains("Could not parse route destination"),
        "{failure}"
    );
    assert_eq!(
        wanted(r#"{"dest":"10.0.0.0/8"}"#).unwrap_err().kind(),
        Kind::Invalid
    );
}
