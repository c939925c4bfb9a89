//! Networks, and a sandbox that carries steps out on a snapshot.

use std::collections::{HashMap, HashSet};

use patchbay_types::ipvs::{
    Change, Deferred, Forward, MaxRules, Netmask, Protocol, Reading, RuleLine, SchedFlags,
    Scheduling, Server, ServerId, Service, ServiceId, Setting, Sysctl, SysctlValue, Table,
};
use patchbay_types::{
    AdminState, Arp, IfName, Interface, InterfaceAddress, LinkFields, LinkName, LinkSpec,
    ListedAddress, Mtu, Neighbor, Owner, Promisc, Route, RouteProtocol, RouteRequest, RouteSpec,
};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::present::{GuestState, PortState, Present, PresentCard, rule_file};
use super::super::{IpvsStep, Step, Strangers, Wanted, plan};
use crate::card::{Backend, CardRequest, PlugRequest};
use crate::managed_route::is_managed;

pub(super) const MAX: MaxRules = MaxRules(100);
/// Number of cards that the machine can have.
const SLOTS: usize = 4;

pub(super) fn card(number: u8, device: u8, mtu: u64, addresses: &[u8]) -> PlugRequest {
    let address = |last: &u8| {
        let ip = format!("10.{number}.0.{last}").parse().unwrap();
        InterfaceAddress::new(ip, 24).unwrap()
    };
    let link = LinkFields {
        name: format!("eth{number}").parse().unwrap(),
        mac: format!("02:00:00:00:00:{:02x}", device + 1)
            .parse()
            .unwrap(),
        mtu: Mtu::try_from(mtu).unwrap(),
        addresses: addresses.iter().map(address).collect(),
        queues: None,
        arp: Arp::On,
    };
    PlugRequest::Card(CardRequest {
        device: format!("tap{device}").parse().unwrap(),
        backend: Backend::Tap,
        link: LinkSpec::new(link, "addresses").unwrap(),
    })
}

pub(super) fn set_down(request: PlugRequest) -> PlugRequest {
    let PlugRequest::Card(card) = request else {
        unreachable!();
    };
    PlugRequest::Card(CardRequest {
        link: card.link.with_state(AdminState::Down),
        ..card
    })
}

pub(super) fn spec_of(request: &PlugRequest) -> &LinkSpec {
    match request {
        PlugRequest::Card(card) => &card.link,
        PlugRequest::Mirror(_) => unreachable!(),
    }
}

pub(super) fn interface(request: &PlugRequest) -> Interface {
    let parts = spec_of(request).parts();
    let owner = Owner::Patchbay;
    let addresses = parts.addresses.iter();
    Interface {
        index: 2,
        name: (&parts.name).into(),
        mac: Some(parts.mac),
        mtu: parts.mtu.get().into(),
        addresses: addresses
            .map(|address| ListedAddress {
                address: *address,
                owner,
            })
            .collect(),
        path: None,
        queues: None,
        up: spec_of(request).state() == AdminState::Up,
        arp: Arp::On,
        carrier: None,
        promisc: Some(spec_of(request).promisc().unwrap_or(Promisc::Off)),
    }
}

pub(super) fn present_card(request: &PlugRequest) -> PresentCard {
    PresentCard {
        name: request.name().clone(),
        mac: spec_of(request).parts().mac,
        request: Some(request.clone()),
        state: GuestState::Configured(interface(request)),
        admin: spec_of(request).state(),
        port: PortState::AsRequested,
        of_link: None,
        latest: None,
    }
}

pub(super) fn route(dest: u8, gateway: Option<u8>, device: u8) -> RouteSpec {
    let request = RouteRequest {
        gateway: gateway.map(|last| format!("10.{device}.0.{last}").parse().unwrap()),
        ..RouteRequest::open(
            format!("20.{dest}.0.0/16").parse().unwrap(),
            format!("eth{device}").parse().unwrap(),
        )
    };
    RouteSpec::new(request).unwrap()
}

pub(super) fn neighbor(ip: u8, lladdr: u8, device: u8) -> Neighbor {
    let ip: std::net::IpAddr = format!("10.{device}.0.{ip}").parse().unwrap();
    Neighbor {
        ip: ip.try_into().unwrap(),
        lladdr: format!("02:00:00:00:01:{lladdr:02x}").parse().unwrap(),
        device: format!("eth{device}").parse().unwrap(),
    }
}

pub(super) fn rules(services: &[u16]) -> Vec<RuleLine> {
    let mut lines = Vec::new();
    for port in services {
        let id = ServiceId::Address {
            protocol: Protocol::Tcp,
            address: "10.0.0.1".parse().unwrap(),
            port: *port,
        };
        let service = Service {
            id,
            scheduler: "rr".parse().unwrap(),
            persistence: None,
            netmask: Netmask::whole(id.family()),
            scheduling: Scheduling::default(),
            flags: SchedFlags::default(),
            engine: None,
        };
        let server = ServerId {
            address: "10.0.0.2".parse().unwrap(),
            port: *port,
        };
        lines.push(Change::AddService(service));
        lines.push(Change::AddServer(
            id,
            Server::new(server, Forward::Masquerade),
        ));
    }
    let line = |(number, change)| RuleLine { number, change };
    (1..).zip(lines).map(line).collect()
}

pub(super) fn setting(value: i64) -> Setting {
    Setting::new(Reading {
        sysctl: Sysctl::IP_FORWARD,
        value: SysctlValue::One(value),
    })
    .unwrap()
}

/// Route that the kernel makes.
pub(super) fn connected() -> Route {
    Route {
        protocol: Some(RouteProtocol::KERNEL),
        ..route(9, None, 0).resolve()
    }
}

pub(super) fn observe(wanted: &Wanted) -> Present {
    let mut present = Present {
        free_slots: SLOTS,
        cards: Some(Vec::new()),
        routes: Some(vec![connected()]),
        neighbors: Some(Vec::new()),
        ipvs: Some(Table::default()),
        sysctls: Some(vec![setting(0).get()]),
        names: HashSet::from(["eth0".parse().unwrap()]),
        renamed: HashMap::new(),
    };
    let all = Wanted {
        interfaces: None,
        ..wanted.clone()
    };
    for request in wanted.interfaces.iter().flatten() {
        run(&mut present, &Step::Plug(Box::new(request.clone())));
    }
    let plan = plan(&all, &present, Strangers::Remove, MAX).unwrap();
    for step in plan.steps() {
        run(&mut present, step);
    }
    present
}

/// Carries out a step as QEMU and the guest do.
pub(super) fn run(present: &mut Present, step: &Step) {
    let cards = present.cards.get_or_insert_default();
    let routes = present.routes.get_or_insert_default();
    let neighbors = present.neighbors.get_or_insert_default();
    match step {
        Step::Unplug(unplug) => {
            let name = unplug.card.name();
            let device = LinkName::from(name);
            cards.retain(|card| card.name != *name);
            routes.retain(|route| route.device != device);
            neighbors.retain(|neighbor| neighbor.device != device);
            present.names.remove(&device);
            present.free_slots += 1;
        }
        Step::Plug(request) => {
            let new = present_card(request);
            let is_free = |card: &PresentCard| {
                let device = |card: &PresentCard| match &card.request {
                    Some(PlugRequest::Card(card)) => card.device.clone(),
                    _ => unreachable!(),
                };
                card.name != new.name && card.mac != new.mac && device(card) != device(&new)
            };
            assert!(cards.iter().all(is_free), "{new:?}: {cards:?}");
            present.free_slots = present.free_slots.checked_sub(1).unwrap();
            present.names.insert((&new.name).into());
            cards.push(new);
        }
        step => run_in_guest(present, step),
    }
}

/// Carries out a step of the guest.
fn run_in_guest(present: &mut Present, step: &Step) {
    let cards = present.cards.get_or_insert_default();
    let routes = present.routes.get_or_insert_default();
    let neighbors = present.neighbors.get_or_insert_default();
    match step {
        Step::Unplug(_) | Step::Plug(_) => unreachable!(),
        Step::Configure(configure) => {
            let name = configure.card.name();
            let card = cards.iter_mut().find(|card| card.name == *name).unwrap();
            card.state = GuestState::Configured(interface(&configure.card));
            present.names.insert(name.into());
            lose_routes(routes, name, configure.state);
        }
        Step::Update(update) => {
            let card = cards
                .iter_mut()
                .find(|card| update.change.name() == &LinkName::from(&card.name));
            let card = card.unwrap();
            let Some(PlugRequest::Card(latest)) = &mut card.request else {
                unreachable!();
            };
            latest.link = update.change.applied_to(&latest.link);
            card.admin = latest.link.state();
            card.state = GuestState::Configured(interface(card.request.as_ref().unwrap()));
            lose_routes(routes, &card.name, card.admin);
        }
        Step::Neighbors(step) => {
            neighbors.retain(|old| !step.difference.removed.contains(old));
            neighbors.extend(step.difference.added.clone());
        }
        Step::Routes(step) => {
            let list = step.list(routes);
            for spec in &list {
                let device = &spec.fields().device;
                assert!(present.names.contains(device), "{spec:?}");
                let mut cards = cards.iter();
                let is_down =
                    |card: &PresentCard| *device == card.name && card.admin == AdminState::Down;
                assert!(!cards.any(is_down), "{spec:?}");
            }
            routes.retain(|route| !is_managed(route));
            routes.extend(list.iter().map(RouteSpec::resolve));
        }
        Step::Ipvs(step) => present.ipvs = Some(restored(step, present.ipvs.clone())),
        Step::Sysctls(changes) => {
            for change in changes {
                let new = change.new.get();
                let readings = present.sysctls.get_or_insert_default();
                readings.retain(|reading| reading.sysctl != new.sysctl);
                readings.push(new);
            }
        }
    }
}

/// Removes the routes of a link that is down.
fn lose_routes(routes: &mut Vec<Route>, name: &IfName, state: AdminState) {
    let device = LinkName::from(name);
    if state == AdminState::Down {
        routes.retain(|route| route.device != device);
    }
}

fn restored(step: &IpvsStep, before: Option<Table>) -> Table {
    let mut table = match step.strangers {
        Strangers::Remove => Table::default(),
        Strangers::Keep => before.unwrap(),
    };
    for line in &step.lines {
        let applied = table.apply(line.change.clone(), None, &mut Deferred::default());
        applied.unwrap();
    }
    table
}

prop_compose! {
    pub(super) fn network()(
        names in subsequence(vec![1, 2, 3, 4], 0..=4),
        devices in Just(vec![1, 2, 3, 4, 5]).prop_shuffle(),
        mtus in prop::collection::vec(prop::sample::select(vec![1400, 1500]), 4),
        addresses in prop::collection::vec(subsequence(vec![1, 2, 3], 0..=3), 4),
        dests in subsequence(vec![1, 2, 3, 4], 0..=4),
        gateways in prop::collection::vec(prop::option::of(7u8..9), 4),
        at in prop::collection::vec(0usize..4, 8),
        ips in subsequence(vec![1, 2, 3], 0..=3),
        lladdrs in prop::collection::vec(0u8..3, 3),
        services in subsequence(vec![80, 81, 82], 0..=3),
        forward in 0i64..2,
        down in subsequence(vec![1, 2, 3, 4], 0..=4),
    ) -> Wanted {
        let cards = names.iter().enumerate().map(|(index, name)| {
            let card = card(*name, devices[index], mtus[index], &addresses[index]);
            if down.contains(name) { set_down(card) } else { card }
        });
        let of = |names: &[u8], index: usize| names.get(at[index] % names.len().max(1)).copied().unwrap_or(0);
        let device = |index| of(&names, index);
        let up: Vec<_> = names.iter().filter(|name| !down.contains(name)).copied().collect();
        let routes = dests.iter().enumerate();
        let routes = routes.map(|(index, dest)| route(*dest, gateways[index], of(&up, index)));
        let neighbors = ips.iter().enumerate();
        let neighbors = neighbors.map(|(index, ip)| neighbor(*ip, lladdrs[index], device(index + 4)));
        Wanted {
            interfaces: Some(cards.collect()),
            routes: Some(routes.collect()),
            neighbors: Some(neighbors.collect()),
            ipvs: Some(rules(&services)),
            sysctls: Some(vec![setting(forward)]),
        }
    }
}

/// Returns a network in an order that two equal ones share.
pub(super) fn sorted(mut network: Wanted) -> String {
    if let Some(cards) = &mut network.interfaces {
        cards.sort_by_key(|card| card.name().to_string());
    }
    let sort = |texts: Vec<String>| {
        let mut texts = texts;
        texts.sort();
        texts
    };
    let routes = network.routes.iter().flatten();
    let routes = sort(routes.map(|spec| format!("{:?}", spec.resolve())).collect());
    let neighbors = network.neighbors.iter().flatten();
    let neighbors = sort(neighbors.map(ToString::to_string).collect());
    let table = Table::of_file(network.ipvs.as_deref().unwrap(), MAX).unwrap();
    let rules = rule_file(&table);
    let cards = sort(
        network
            .interfaces
            .iter()
            .flatten()
            .map(|card| {
                let mut parts = spec_of(card).parts().clone();
                parts.addresses.sort_by_key(|address| address.ip());
                format!("{parts:?} {:?}", spec_of(card).state())
            })
            .collect(),
    );
    format!(
        "{cards:#?}{routes:#?}{neighbors:#?}{rules:#?}{:?}",
        network.sysctls
    )
}
