//! Routes as the kernel lists them and is told them.

use patchbay_types::{RouteFields, RouteSpec, Scope};

use super::*;

fn told(stored: &Stored) -> Vec<u8> {
    let mut batch = Batch::default();
    add(&mut batch, stored);
    batch.bytes()[16..].to_vec()
}

fn listed(payload: &[u8]) -> Stored {
    Stored::Listed(Listed::read(payload).unwrap())
}

/// The route `10.1.0.0/16 dev eth1`, with what is added to it.
fn with(more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let spec = RouteSpec::new(RouteFields {
        dest: "10.1.0.0/16".parse().unwrap(),
        gateway: None,
        source: None,
        device: "eth1".parse().unwrap(),
        scope: None,
        metric: None,
    });
    let mut payload = told(&Stored::new(&spec.unwrap().resolve(), 3));
    more(&mut payload);
    payload
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

#[test]
fn a_route_is_told_and_read_alike() {
    for (dest, gateway, source) in [
        ("0.0.0.0/0", Some("10.0.0.1"), None),
        ("10.1.0.0/16", None, Some("10.0.0.2")),
        ("::/0", Some("fe80::1"), Some("fd01::2")),
        ("fd01::/64", None, None),
    ] {
        let spec = RouteSpec::new(RouteFields {
            dest: dest.parse().unwrap(),
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            source: source.map(|ip: &str| ip.parse().unwrap()),
            device: "eth1".parse().unwrap(),
            scope: None::<Scope>,
            metric: Some(7),
        });
        let route = spec.unwrap().resolve();
        let stored = Stored::new(&route, 3);
        let names = HashMap::from([(3, "eth1".to_owned())]);
        let listed = listed(&told(&stored));
        assert_eq!(told(&listed), told(&stored));
        assert_eq!(listed.spoken(&names), Some(route));
        assert_eq!(stored.has_gateway(), gateway.is_some());
        assert!(stored.uses(3) && !stored.uses(4) && !stored.made_by_kernel());
    }
}

#[test]
fn an_encapsulation_that_nobody_knows_is_told_again() {
    let encap = attribute(rta::ENCAP, &[5, 0, 77, 0, 1, 0, 0, 0]);
    let payload = with(|payload| payload.extend(&encap));
    assert_eq!(told(&listed(&payload)), payload);
}

#[test]
fn what_the_kernel_refuses_is_not_told() {
    let hop = |flags: u8, index: u8| [8, 0, flags, 0, index, 0, 0, 0];
    let several = |flags| attribute(rta::MULTIPATH, &[hop(flags, 4), hop(0, 5)].concat());
    let down = listed(&with(|payload| {
        payload[8] = DOWN | 4;
        payload.extend(several(DOWN | 4));
    }));
    let up = with(|payload| {
        payload[8] = 4;
        payload.extend(several(4));
    });
    assert_eq!(told(&down), up);
    assert!(down.uses(4) && down.uses(5) && !down.uses(6) && down.has_gateway());
}

#[test]
fn what_is_left_of_a_life_is_told_in_seconds() {
    let mut info = [0; 32];
    info[8..12].copy_from_slice(&6000u32.to_ne_bytes());
    let dying = listed(&with(|p| p.extend(attribute(rta::CACHEINFO, &info))));
    let expires = attribute(rta::EXPIRES, &60u32.to_ne_bytes());
    assert_eq!(told(&dying), with(|p| p.extend(expires)));
}

#[test]
fn what_is_torn_is_passed_over() {
    for torn in [&[9, 0, 4, 0, 0][..], &[2, 0, 4, 0]] {
        let payload = with(|payload| payload.extend(torn));
        assert!(Listed::read(&payload).is_err(), "{torn:?}");
    }
    let hops = with(|p| p.extend(attribute(rta::MULTIPATH, &[9, 0, 0, 0, 1, 0, 0, 0])));
    assert!(Listed::read(&hops).is_err());
    assert!(Listed::read(&[2; 11]).is_err());
}

#[test]
fn what_cannot_be_said_is_left_out() {
    let names = HashMap::from([(3, "eth1".to_owned())]);
    let spoken = |change: &dyn Fn(&mut Vec<u8>)| listed(&with(change)).spoken(&names);
    let adding = |kind| {
        let attribute = attribute(kind, &9u32.to_ne_bytes());
        spoken(&|payload| payload.extend(&attribute))
    };
    assert!(spoken(&|_| {}).is_some());
    // Type of service, table, type of the route.
    for (place, value) in [(3, 16), (4, 100), (7, 6)] {
        assert_eq!(spoken(&|payload| payload[place] = value), None, "{place}");
    }
    for kind in [rta::ENCAP, rta::NH_ID, rta::OIF, rta::VIA, rta::IIF] {
        assert_eq!(adding(kind), None, "{kind}");
    }
    let none = attribute(rta::MULTIPATH, &[]);
    assert_eq!(spoken(&|payload| payload.extend(&none)), None);
}
