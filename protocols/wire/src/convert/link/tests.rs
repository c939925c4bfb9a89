//! Round trips of interface messages, and invalid ones.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use protobuf::Message;

use super::*;
use patchbay_types::{LinkName, Promisc};

prop_compose! {
    fn an_address()(ip: [u8; 16], short: bool, prefix in 0..=32u8) -> Option<InterfaceAddress> {
        let ip = if short { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) };
        InterfaceAddress::new(ip, prefix).ok()
    }
}

prop_compose! {
    fn a_spec()(
        name in "[A-Za-z][A-Za-z0-9_.-]{0,14}",
        mac: [u8; 5],
        mtu in 1280..=9600u64,
        addresses in vec(an_address(), 0..20),
        pairs in 0..=256u64,
        no_arp: bool,
        numbers in [1..3u32, 0..3u32],
    ) -> Option<LinkSpec> {
        let spec = LinkSpec::new(LinkFields {
            name: name.parse().unwrap(),
            mac: MacAddr::try_from([2, mac[0], mac[1], mac[2], mac[3], mac[4]]).unwrap(),
            mtu: Mtu::try_from(mtu).unwrap(),
            addresses: addresses.into_iter().flatten().collect(),
            queues: QueuePairs::try_from(pairs).ok(),
            arp: if no_arp { Arp::Off } else { Arp::On },
        }, "addresses").ok()?;
        let [state, promisc] = numbers;
        let spec = spec.with_state(flags::read(state, "state").unwrap()?);
        Some(spec.with_promisc(flags::read(promisc, "promisc").unwrap()))
    }
}

proptest! {
    #[test]
    fn configure_request_round_trips(spec in a_spec(), devfns in vec(any::<u8>(), 1..=8)) {
        let Some(spec) = spec else { return Ok(()) };
        let path = path(&devfns).unwrap();
        let bytes = configure_request(&path, &spec).write_to_bytes().unwrap();
        let read = wire::ConfigureInterfaceRequest::parse_from_bytes(&bytes).unwrap();
        let back: (PciPath, LinkSpec) = (&read).try_into().unwrap();
        prop_assert_eq!(back, (path, spec));
    }

    #[test]
    fn interface_round_trips(
        spec in a_spec(), devfns in vec(any::<u8>(), 0..=8), index: u32, up: bool, mtu: u32,
        numbers in [0u32..3, 0u32..3],
    ) {
        let [carrier, promisc] = numbers;
        let Some(spec) = spec else { return Ok(()) };
        let parts = spec.parts();
        let owners = [Owner::Patchbay, Owner::Other].into_iter().cycle();
        let addresses = parts.addresses.iter().zip(owners);
        let sent = Interface {
            index,
            name: LinkName::from(&parts.name),
            mac: Some(parts.mac),
            mtu,
            addresses: addresses
                .map(|(address, owner)| ListedAddress { address: *address, owner })
                .collect(),
            path: path(&devfns).ok(),
            queues: parts.queues,
            up,
            arp: parts.arp,
            carrier: flags::read(carrier, "carrier").unwrap(),
            promisc: flags::read(promisc, "promisc").unwrap(),
        };
        let bytes = wire::Interface::from(&sent).write_to_bytes().unwrap();
        let read = wire::Interface::parse_from_bytes(&bytes).unwrap();
        prop_assert_eq!(Interface::try_from(&read).unwrap(), sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(request) = wire::ConfigureInterfaceRequest::parse_from_bytes(&bytes) {
            let _ = <(PciPath, LinkSpec)>::try_from(&request);
        }
        if let Ok(reply) = wire::ListInterfacesReply::parse_from_bytes(&bytes) {
            let _ = interfaces(&reply);
        }
    }
}

fn request() -> wire::ConfigureInterfaceRequest {
    wire::ConfigureInterfaceRequest {
        pci_path: vec![8, 0],
        mac: vec![2, 0, 0, 0, 0, 1],
        name: "eth1".to_owned(),
        mtu: 1500,
        ..wire::ConfigureInterfaceRequest::default()
    }
}

#[test]
fn configure_request_invalid_field_is_named() {
    type Break = fn(&mut wire::ConfigureInterfaceRequest);
    let cases: [(&str, Break); 9] = [
        ("pci_path", |r| r.pci_path.clear()),
        ("mac", |r| r.mac.truncate(5)),
        ("name", |r| r.name = "a b".to_owned()),
        ("mtu", |r| r.mtu = 67),
        ("queues", |r| r.queues = 257),
        ("state", |r| r.state = 3),
        ("promisc", |r| r.promisc = 3),
        ("addresses[0]", |r| {
            r.addresses.push(wire::Address::default());
        }),
        ("addresses", |r| {
            r.addresses = vec![wire::Address::default(); 5000];
        }),
    ];
    for (field, break_it) in cases {
        let mut request = request();
        break_it(&mut request);
        let error = <(PciPath, LinkSpec)>::try_from(&request).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    }
}

#[test]
fn update_request_empty_addresses_differ_from_none() {
    let address = InterfaceAddress::new("fd00::1".parse().unwrap(), 64).unwrap();
    for wanted in [None, Some(vec![]), Some(vec![address])] {
        let mtu = Mtu::try_from(1500).ok();
        let sent = LinkChange::new("eth1".parse().unwrap(), wanted, mtu, "addresses").unwrap();
        let sent = sent.with_dad(DadPolicy::Detect);
        let bytes = update_request(&sent).write_to_bytes().unwrap();
        let read = wire::UpdateInterfaceRequest::parse_from_bytes(&bytes).unwrap();
        assert_eq!(LinkChange::try_from(&read).unwrap(), sent);
    }
}

#[test]
fn update_request_keeps_flags_apart() {
    let down = LinkFlags {
        state: Some(AdminState::Down),
        ..LinkFlags::default()
    };
    let others = LinkFlags {
        arp: Some(Arp::On),
        promisc: Some(Promisc::Off),
        state: None,
    };
    for flags in [LinkFlags::default(), down, others] {
        let sent = LinkChange::new("eth1".parse().unwrap(), None, None, "addresses").unwrap();
        let sent = sent.with_flags(flags);
        let sent = sent.with_rename("wan0".parse().ok());
        assert_eq!(LinkChange::try_from(&update_request(&sent)).unwrap(), sent);
    }
}

#[test]
fn update_request_invalid_field_is_named() {
    type Break = fn(&mut wire::UpdateInterfaceRequest);
    let cases: [(&str, Break); 7] = [
        ("name", |r| r.name.clear()),
        ("mtu", |r| r.mtu = 67),
        ("addresses[0]", |r| {
            r.addresses.push(wire::Address::default());
        }),
        ("state", |r| r.state = 3),
        ("arp", |r| r.arp = 3),
        ("promisc", |r| r.promisc = u32::MAX),
        ("rename", |r| r.rename = "a b".to_owned()),
    ];
    for (field, break_it) in cases {
        let mut request = wire::UpdateInterfaceRequest {
            name: "eth1".to_owned(),
            set_addresses: true,
            ..wire::UpdateInterfaceRequest::default()
        };
        break_it(&mut request);
        assert_eq!(LinkChange::try_from(&request).unwrap_err().field(), field);
    }
}
