//! Requests built for routes, and dumped routes.

use patchbay_types::{RouteRequest, RouteSpec, RouteTable};

use super::*;

fn encoded(route: &RouteMsg) -> Vec<u8> {
    let mut batch = Batch::default();
    add(&mut batch, route);
    batch.bytes()[16..].to_vec()
}

fn dumped(payload: &[u8]) -> RouteMsg {
    RouteMsg::dumped(payload).unwrap()
}

/// Message for `10.1.0.0/16 dev eth1`, after `change`.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let request = RouteRequest::open("10.1.0.0/16".parse().unwrap(), "eth1".parse().unwrap());
    let spec = RouteSpec::new(request);
    let mut payload = encoded(&RouteMsg::new(&spec.unwrap().resolve(), 3));
    change(&mut payload);
    payload
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

#[test]
fn route_built_reads_back_the_same() {
    for (dest, gateway, source, table) in [
        ("0.0.0.0/0", Some("10.0.0.1"), None, 254),
        ("10.1.0.0/16", None, Some("10.0.0.2"), 255),
        ("::/0", Some("fe80::1"), Some("fd01::2"), 256),
        ("fd01::/64", None, None, u64::from(u32::MAX)),
    ] {
        let spec = RouteSpec::new(RouteRequest {
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            source: source.map(|ip: &str| ip.parse().unwrap()),
            metric: Some(7),
            onlink: Onlink::from(gateway.is_some()),
            mtu: RouteMtu::try_from(1300).ok(),
            protocol: RouteProtocol::try_from(186).ok(),
            table: RouteTable::try_from(table).unwrap(),
            ..RouteRequest::open(dest.parse().unwrap(), "eth1".parse().unwrap())
        });
        let route = spec.unwrap().resolve();
        let built = RouteMsg::new(&route, 3);
        let names = HashMap::from([(3, "eth1".parse().unwrap())]);
        let dumped = dumped(&encoded(&built));
        assert_eq!(dumped, built);
        assert_eq!(dumped.to_route(&names), Some(route));
        assert_eq!(built.view().has_gateway(), gateway.is_some());
        assert!(built.view().uses(3) && !built.view().uses(4) && !built.view().made_by_kernel());
    }
}

#[test]
fn dumped_unknown_encapsulation_is_kept() {
    let encap = attribute(RTA_ENCAP, &[5, 0, 77, 0, 1, 0, 0, 0]);
    let payload = changed(|payload| payload.extend(&encap));
    assert_eq!(encoded(&dumped(&payload)), payload);
}

#[test]
fn dumped_dead_flags_are_cleared() {
    let hop = |flags: u8, index: u8| [8, 0, flags, 0, index, 0, 0, 0];
    let several = |flags| attribute(RTA_MULTIPATH, &[hop(flags, 4), hop(0, 5)].concat());
    let down = dumped(&changed(|payload| {
        payload[8] = DEAD_FLAGS | 4;
        payload.extend(several(DEAD_FLAGS | 4));
    }));
    let up = changed(|payload| {
        payload[8] = 4;
        payload.extend(several(4));
    });
    assert_eq!(encoded(&down), up);
    assert!(
        down.view().uses(4)
            && down.view().uses(5)
            && !down.view().uses(6)
            && down.view().has_gateway()
    );
}

#[test]
fn on_link_sets_the_flag_at_gateways() {
    let single = dumped(&changed(|payload| payload[8] = 16 << 1));
    let flags = u32::from_ne_bytes(encoded(&single.on_link())[8..12].try_into().unwrap());
    assert_eq!(flags, 16 << 1 | u32::from(ONLINK_FLAG));
    let gateway = attribute(RTA_GATEWAY, &[172, 16, 0, 1]);
    let hops = |flags| {
        let near = [8, 0, 0, 0, 4, 0, 0, 0];
        let far = [&[16, 0, flags, 0, 5, 0, 0, 0], &gateway[..]].concat();
        changed(|payload| payload.extend(attribute(RTA_MULTIPATH, &[&near[..], &far].concat())))
    };
    assert_eq!(encoded(&dumped(&hops(0)).on_link()), hops(ONLINK_FLAG));
}

#[test]
fn request_with_nexthop_object_omits_its_contents() {
    let object = attribute(RTA_NH_ID, &7u32.to_ne_bytes());
    let hops = attribute(RTA_MULTIPATH, &[8, 0, 0, 0, 4, 0, 0, 0]);
    let gateway = attribute(RTA_GATEWAY, &[172, 16, 0, 1]);
    let payload = changed(|payload| payload.extend([&gateway[..], &object, &hops].concat()));
    let route = dumped(&payload);
    assert!(route.view().uses(3) && route.view().uses(4) && route.view().has_gateway());
    let mut kinds: Vec<u16> = dumped(&encoded(&route))
        .view()
        .attributes()
        .map(|(kind, _)| kind)
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [RTA_DST, RTA_PRIORITY, RTA_TABLE, RTA_NH_ID]);
}

#[test]
fn dumped_lifetime_becomes_seconds() {
    let mut info = [0; 32];
    info[8..12].copy_from_slice(&6000u32.to_ne_bytes());
    let expiring = dumped(&changed(|p| p.extend(attribute(RTA_CACHEINFO, &info))));
    let expires = attribute(RTA_EXPIRES, &60u32.to_ne_bytes());
    assert_eq!(encoded(&expiring), changed(|p| p.extend(expires)));
}

#[test]
fn dumped_malformed_message_is_rejected() {
    for torn in [&[9, 0, 4, 0, 0][..], &[2, 0, 4, 0]] {
        let payload = changed(|payload| payload.extend(torn));
        assert!(RouteMsg::dumped(&payload).is_err(), "{torn:?}");
    }
    let hops = changed(|p| p.extend(attribute(RTA_MULTIPATH, &[9, 0, 0, 0, 1, 0, 0, 0])));
    assert!(RouteMsg::dumped(&hops).is_err());
    assert!(RouteMsg::dumped(&[2; 11]).is_err());
}

#[test]
fn to_route_unsupported_attribute_returns_none() {
    let names = HashMap::from([(3, "eth1".parse().unwrap())]);
    let converted = |change: &dyn Fn(&mut Vec<u8>)| dumped(&changed(change)).to_route(&names);
    let with_attribute = |kind| {
        let attribute = attribute(kind, &9u32.to_ne_bytes());
        converted(&|payload| payload.extend(&attribute))
    };
    assert!(converted(&|_| {}).is_some());
    // tos, type
    for (offset, value) in [(3, 16), (7, 6)] {
        assert_eq!(
            converted(&|payload| payload[offset] = value),
            None,
            "{offset}"
        );
    }
    for kind in [RTA_ENCAP, RTA_NH_ID, RTA_OIF, RTA_VIA, RTA_IIF] {
        assert_eq!(with_attribute(kind), None, "{kind}");
    }
    let none = attribute(RTA_MULTIPATH, &[]);
    assert_eq!(converted(&|payload| payload.extend(&none)), None);
}
