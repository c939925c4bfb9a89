//! Messages that the first release doesn't have, and those with fields added since. The recording can
//! change until the next release.

use std::net::IpAddr;

use patchbay_types::ipvs::RestoreProgress;
use patchbay_types::{
    AddressDetail, AdminState, Carrier, GuestNetns, LinkChange, Neighbor, NeighborPattern, Owner,
    PciPath, Promisc, RouteMtu, RouteRequest, RouteSpec, SlotPower,
};
use patchbay_wire::convert;
use patchbay_wire::proto::{agent, ipvs};
use protobuf::Message;

use super::values::{interface, link, link_change, managers, path, places};
use super::{events::all as events, message, methods, recorded, replay};

pub(super) const RECORDED: &str = include_str!("../../../../tests/fixtures/wire/unreleased.txt");

fn neighbors() -> Vec<Neighbor> {
    let neighbor = |ip: &str, lladdr: &str| Neighbor {
        ip: ip.parse::<IpAddr>().unwrap().try_into().unwrap(),
        lladdr: lladdr.parse().unwrap(),
        device: "eth-test".parse().unwrap(),
    };
    vec![
        neighbor("172.16.0.9", "02:00:00:00:00:09"),
        neighbor("fd00::9", "02:00:00:00:00:0a"),
    ]
}

fn patterns() -> Vec<NeighborPattern> {
    let [Neighbor { ip, lladdr, device }, other] = neighbors().try_into().unwrap();
    let full = NeighborPattern {
        ip,
        lladdr: Some(lladdr),
        device: Some(device),
    };
    let open = NeighborPattern {
        ip: other.ip,
        lladdr: None,
        device: None,
    };
    vec![full, open]
}

fn routes() -> Vec<RouteSpec> {
    let request = RouteRequest {
        gateway: "172.16.0.1".parse().ok(),
        mtu: RouteMtu::try_from(1400).ok(),
        ..RouteRequest::open("10.9.0.0/16".parse().unwrap(), "eth-test".parse().unwrap())
    };
    vec![RouteSpec::new(request).unwrap()]
}

fn update_request(change: &LinkChange) -> agent::UpdateInterfaceRequest {
    agent::UpdateInterfaceRequest {
        without_addresses: true,
        ..convert::update_request(change)
    }
}

pub(super) fn bytes(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

fn configure(neighbors: Vec<Neighbor<()>>) -> agent::ConfigureInterfaceRequest {
    let link = link().with_neighbors(neighbors, "neighbors").unwrap();
    let link = link
        .with_state(AdminState::Down)
        .with_promisc(Some(Promisc::On));
    let request = convert::configure_request(&path(), &link);
    convert::with_yielding(request, &[path()])
}

/// The messages by name.
fn all() -> Vec<(&'static str, Vec<u8>)> {
    [extended(), added(), restore(), connections(), events()].concat()
}

/// Messages with new fields, by name.
fn extended() -> Vec<(&'static str, Vec<u8>)> {
    let mut foreign = interface();
    foreign.addresses[0].owner = Owner::Other;
    foreign.carrier = Some(Carrier::On);
    foreign.promisc = Some(Promisc::On);
    let hello = agent::HelloReply {
        api_version: 1,
        layouts: Some(agent::Layouts {
            rules: 1,
            rows: 1,
            flows: 1,
            routes: 1,
            settings: 1,
            ..Default::default()
        })
        .into(),
        boot_id: "d4f0b0a6-6c1e-4e55-8d2a-0a6f5a2f3c11".to_owned(),
        ..Default::default()
    };
    let entries = neighbors().into_iter();
    let entries = entries.map(|Neighbor { ip, lladdr, .. }| Neighbor {
        ip,
        lladdr,
        device: (),
    });
    vec![
        ("Hello.reply", bytes(&hello)),
        (
            "ConfigureInterface.request",
            bytes(&configure(entries.collect())),
        ),
        (
            "ListInterfaces.request",
            bytes(&convert::interfaces_request(AddressDetail::Omitted)),
        ),
        (
            "UpdateInterface.request",
            bytes(&update_request(&link_change())),
        ),
        (
            "UpdateInterface.reply",
            bytes(&agent::Interface::from(&foreign)),
        ),
    ]
}

/// Messages of new methods, by name.
fn added() -> Vec<(&'static str, Vec<u8>)> {
    let empty = Vec::new();
    let mut release = convert::release_request(&path(), SlotPower::Off);
    release.wait_ms = 30_000;
    vec![
        (
            "MarkCard.request",
            bytes(&convert::mark_card_request(link().parts().mac)),
        ),
        ("MarkCard.reply", empty.clone()),
        ("ListManagers.request", empty.clone()),
        (
            "ListManagers.reply",
            bytes(&agent::ListManagersReply {
                managers: managers().iter().map(Into::into).collect(),
                ..Default::default()
            }),
        ),
        (
            "LocateCards.request",
            bytes(&convert::locate_request(&[path(), path()])),
        ),
        (
            "LocateCards.reply",
            bytes(&agent::LocateCardsReply {
                places: places().iter().map(Into::into).collect(),
                ..Default::default()
            }),
        ),
        ("ReleaseCard.request", bytes(&release)),
        ("ReleaseCard.reply", empty.clone()),
        (
            "AddRoutes.request",
            bytes(&convert::routes_request(&routes())),
        ),
        (
            "AddNeighbors.request",
            bytes(&convert::neighbors_request(&neighbors())),
        ),
        ("AddNeighbors.reply", empty.clone()),
        (
            "DeleteNeighbors.request",
            bytes(&convert::delete_neighbors_request(&patterns())),
        ),
        ("DeleteNeighbors.reply", empty.clone()),
        ("ListNeighbors.request", empty),
        (
            "ListNeighbors.reply",
            bytes(&convert::neighbors_reply(&neighbors())),
        ),
        (
            "Ipvs.Sysctls.request",
            bytes(&ipvs::SysctlsRequest {
                max_layout: 1,
                loaded: true,
                ..Default::default()
            }),
        ),
    ]
}

/// Messages of a rule file with progress, by name.
fn restore() -> Vec<(&'static str, Vec<u8>)> {
    let progress = ipvs::RestoreProgress {
        reply: Some(ipvs::RestoreReply {
            added: 4,
            edited: 300,
            deleted: 1,
            ..Default::default()
        })
        .into(),
        ..RestoreProgress {
            done: 512,
            total: 20_000,
        }
        .into()
    };
    let chunk = ipvs::RestoreChunk {
        mode: 1,
        max_rules: 40_000,
        rules: patchbay_codec::pack(&patchbay_types::ipvs::RuleLine {
            number: 7,
            change: patchbay_types::ipvs::Change::Clear,
        }),
        last: true,
        layout: 1,
        ..Default::default()
    };
    vec![
        ("Ipvs.RestoreWithProgress.request", bytes(&chunk)),
        ("Ipvs.RestoreWithProgress.reply", bytes(&progress)),
    ]
}

/// Messages about other namespaces, the connections of IPVS servers and cancellation, by name.
fn connections() -> Vec<(&'static str, Vec<u8>)> {
    let peer = |address: &[u8], port| ipvs::Peer {
        address: address.to_vec(),
        port,
        ..Default::default()
    };
    let service = ipvs::ServiceFilter {
        address: Some(peer(&[10, 0, 0, 1], 80)).into(),
        protocol: 6,
        ..Default::default()
    };
    let server = ipvs::ServerFilter {
        server: Some(peer(&[10, 0, 0, 2], 8080)).into(),
        service: Some(service).into(),
        ..Default::default()
    };
    let count = ipvs::CountConnectionsRequest {
        servers: vec![server.clone()],
        ..Default::default()
    };
    let counted = ipvs::CountConnectionsReply {
        connections: 300,
        partial: true,
        ending: true,
        ..Default::default()
    };
    let end = ipvs::EndConnectionsRequest {
        servers: vec![server],
        drain: true,
        drain_ms: 30_000,
        ..Default::default()
    };
    let ended = ipvs::EndConnectionsChunk {
        active: 1,
        inactive: 2,
        ended: 300,
        last: true,
        ..Default::default()
    };
    let netns = GuestNetns::Path("/run/netns/blue".into());
    let mut entered = agent::EnterNetnsReply::new();
    entered.port = 1062;
    let mut cancel = agent::CancelRequest::new();
    cancel.token = 0x0123_4567_89ab_cdef;
    vec![
        (
            "EnterNetns.request",
            bytes(&convert::enter_netns_request(&netns)),
        ),
        ("EnterNetns.reply", bytes(&entered)),
        ("Cancel.request", bytes(&cancel)),
        ("Cancel.reply", Vec::new()),
        ("Ipvs.CountConnections.request", bytes(&count)),
        ("Ipvs.CountConnections.reply", bytes(&counted)),
        ("Ipvs.EndConnections.request", bytes(&end)),
        ("Ipvs.EndConnections.reply", bytes(&ended)),
    ]
}

#[test]
fn encoders_match_the_recording() {
    let recorded = recorded(RECORDED);
    assert_eq!(all().len(), recorded.len());
    for (name, bytes) in all() {
        assert_eq!(hex::encode(&bytes), hex::encode(&recorded[name]), "{name}");
    }
}

#[test]
fn agent_decodes_recorded_requests() {
    let name = "ConfigureInterface.request";
    let configure: agent::ConfigureInterfaceRequest = message(RECORDED, name);
    let (_, spec) = <(PciPath, _)>::try_from(&configure).unwrap();
    let spec: patchbay_types::LinkSpec = spec;
    assert_eq!(spec.neighbors().len(), 2);
    assert_eq!(spec.state(), AdminState::Down);
    assert_eq!(spec.promisc(), Some(Promisc::On));
    assert_eq!(convert::yielding(&configure).unwrap(), [path()]);
    let read = |wire: &agent::UpdateInterfaceRequest| LinkChange::try_from(wire);
    replay(RECORDED, "UpdateInterface.request", read, update_request);
    let update: agent::UpdateInterfaceRequest = message(RECORDED, "UpdateInterface.request");
    let list: agent::ListInterfacesRequest = message(RECORDED, "ListInterfaces.request");
    for detail in [AddressDetail::from(&update), AddressDetail::from(&list)] {
        assert_eq!(detail, AddressDetail::Omitted);
    }
    replay(RECORDED, "LocateCards.request", convert::paths, |paths| {
        convert::locate_request(paths)
    });
    let release: agent::ReleaseCardRequest = message(RECORDED, "ReleaseCard.request");
    let released = <(PciPath, SlotPower)>::try_from(&release).unwrap();
    assert_eq!(
        (released, release.wait_ms),
        ((path(), SlotPower::Off), 30_000)
    );
    let enter = |wire: &agent::EnterNetnsRequest| GuestNetns::try_from(wire);
    replay(
        RECORDED,
        "EnterNetns.request",
        enter,
        convert::enter_netns_request,
    );
    let counted = convert::ipvs_servers::counted;
    replay(
        RECORDED,
        "Ipvs.CountConnections.request",
        counted,
        |servers| convert::ipvs_servers::count_request(servers),
    );
    let mark: agent::MarkCardRequest = message(RECORDED, "MarkCard.request");
    assert_eq!(
        patchbay_types::MacAddr::try_from(&mark).unwrap(),
        link().parts().mac
    );
    replay(RECORDED, "AddRoutes.request", convert::specs, |specs| {
        convert::routes_request(specs)
    });
    replay(
        RECORDED,
        "AddNeighbors.request",
        convert::new_neighbors,
        |neighbors| convert::neighbors_request(neighbors),
    );
    replay(
        RECORDED,
        "DeleteNeighbors.request",
        convert::neighbor_patterns,
        |patterns| convert::delete_neighbors_request(patterns),
    );
}

#[test]
fn host_decodes_recorded_replies() {
    let hello: agent::HelloReply = message(RECORDED, "Hello.reply");
    assert_eq!(hello.layouts.routes, 1);
    assert!(hello.boot_id.parse::<patchbay_types::BootId>().is_ok());
    let updated: agent::Interface = message(RECORDED, "UpdateInterface.reply");
    let updated = patchbay_types::Interface::try_from(&updated).unwrap();
    assert_eq!(updated.addresses[0].owner, Owner::Other);
    assert_eq!(updated.promisc, Some(Promisc::On));
    let listed: agent::ListManagersReply = message(RECORDED, "ListManagers.reply");
    assert_eq!(convert::managers(&listed).unwrap(), managers());
    let located: agent::LocateCardsReply = message(RECORDED, "LocateCards.reply");
    assert_eq!(convert::places(&located, 6).unwrap(), places());
    replay(
        RECORDED,
        "ListNeighbors.reply",
        convert::neighbors,
        |neighbors| convert::neighbors_reply(neighbors),
    );
    let progress: ipvs::RestoreProgress = message(RECORDED, "Ipvs.RestoreWithProgress.reply");
    let RestoreProgress { done, total } = (&progress).into();
    assert_eq!((done, total), (512, 20_000));
    assert!(progress.reply.is_some());
}

/// A new method needs a recording of its request and its reply.
#[test]
fn every_method_is_recorded() {
    let (first, unreleased) = (recorded(super::RECORDED), recorded(RECORDED));
    for method in methods() {
        for direction in ["request", "reply"] {
            let name = format!("{method}.{direction}");
            // `Ipvs.Change` has one recording for each command.
            let numbered = format!("{name}.1");
            let is_recorded = [&first, &unreleased]
                .iter()
                .any(|names| names.contains_key(&*name) || names.contains_key(&*numbered));
            assert!(is_recorded, "{name} has no recording");
        }
    }
}
