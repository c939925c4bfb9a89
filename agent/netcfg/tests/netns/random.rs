//! Random changes of addresses and routes, each checked against a plain model: what is there is a
//! list, and a request that the model finds wrong must change nothing.

#[allow(dead_code)]
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::bench::{Dice, address, ip, json, services};
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::Failure;
use patchbay_types::{Destination, LinkChange, Route, RoutePattern, RouteRequest, RouteSpec};

const STEPS: usize = 400;
const DEVICES: [&str; 2] = ["eth1", "eth2"];

/// The addresses that a link always keeps, so that its router stays in reach, and its router.
fn base(device: &str) -> [(&'static str, &'static str); 2] {
    match device {
        "eth1" => [("172.16.0.3/16", "172.16.0.1"), ("fd01::3/64", "fd01::1")],
        _ => [("10.9.0.3/16", "10.9.0.1"), ("fd02::3/64", "fd02::1")],
    }
}

/// What the test believes.
#[derive(Debug, Clone, Default)]
struct Model {
    addresses: BTreeMap<&'static str, BTreeSet<String>>,
    /// Device and way by destination and metric, as iproute2 tells them.
    routes: BTreeMap<(String, u64), (Option<String>, String)>,
}

impl Model {
    fn new() -> Self {
        let all = DEVICES.map(|device| (device, BTreeSet::from(base(device).map(|b| b.0.into()))));
        Self {
            addresses: all.into_iter().collect(),
            routes: BTreeMap::new(),
        }
    }

    /// What the kernel has, but for what it made by itself.
    fn seen() -> Self {
        let mut seen = Self::default();
        for device in DEVICES {
            let listed = json(&format!("addr show {device}"))[0]["addr_info"].take();
            let listed = listed.as_array().unwrap().clone().into_iter();
            let ours = listed.filter(|a| a["local"].is_string() && a["scope"] != "link");
            let texts =
                ours.map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]));
            seen.addresses.insert(device, texts.collect());
        }
        for family in ["-4", "-6"] {
            for route in json(&format!("{family} route show")).as_array().unwrap() {
                if route["protocol"] == "kernel" {
                    continue;
                }
                let text = |key: &str| route[key].as_str().map(str::to_owned);
                let (everywhere, host) = if family == "-4" {
                    ("0.0.0.0/0", "/32")
                } else {
                    ("::/0", "/128")
                };
                let dest = match text("dst").unwrap().as_str() {
                    "default" => everywhere.to_owned(),
                    net if net.contains('/') => net.to_owned(),
                    address => format!("{address}{host}"),
                };
                let metric = route["metric"].as_u64().unwrap_or(0);
                let way = (text("gateway"), text("dev").unwrap());
                seen.routes.insert((dest, metric), way);
            }
        }
        seen
    }

    fn identity(route: &Route) -> (String, u64) {
        (route.dest.to_string(), route.metric.into())
    }

    fn way(route: &Route) -> (Option<String>, String) {
        let gateway = route.gateway.map(|ip| ip.to_string());
        (gateway, route.device.clone())
    }

    /// Adds all or none.
    fn add(&mut self, specs: &[RouteSpec]) -> Result<(), ()> {
        let mut routes = self.routes.clone();
        for route in specs.iter().map(RouteSpec::resolve) {
            let way = Self::way(&route);
            if *routes.entry(Self::identity(&route)).or_insert(way.clone()) != way {
                return Err(());
            }
        }
        self.routes = routes;
        Ok(())
    }

    fn delete(&mut self, pattern: &RoutePattern) -> Result<(), ()> {
        let before = self.routes.len();
        let Destination::Net(net) = pattern.dest else {
            panic!("the test makes none");
        };
        self.routes.retain(|(dest, metric), (gateway, device)| {
            let agrees = *dest == net.trunc().to_string()
                && pattern
                    .gateway
                    .is_none_or(|ip| Some(ip.to_string()) == *gateway)
                && pattern
                    .device
                    .as_ref()
                    .is_none_or(|name| name.as_str() == device)
                && pattern.metric.is_none_or(|m| u64::from(m) == *metric);
            !agrees
        });
        if self.routes.len() == before {
            Err(())
        } else {
            Ok(())
        }
    }
}

/// Few destinations, so that requests meet.
fn a_route(dice: &mut Dice) -> RouteSpec {
    let device = *dice.one(&DEVICES);
    let v4 = dice.below(2) == 0;
    let dest = if v4 {
        ["20.1.0.0/16", "20.2.0.0/16", "20.3.4.5/32", "0.0.0.0/0"]
    } else {
        [
            "2001:db8:1::/48",
            "2001:db8:2::/48",
            "2001:db8::1/128",
            "::/0",
        ]
    };
    let [v4_base, v6_base] = base(device);
    let dest = *dice.one(&dest);
    // Everything would be on the link, also what is meant to be out of reach.
    let routed = dest.ends_with("/0") || dice.below(3) > 0;
    let mut gateway = routed.then_some(if v4 { v4_base.1 } else { v6_base.1 });
    // Out of everybody's reach: the kernel refuses it.
    if dice.below(12) == 0 {
        gateway = Some(if v4 { "192.0.2.1" } else { "2001:db8:ffff::1" });
    }
    let parts = RouteRequest {
        dest: dest.parse().unwrap(),
        gateway: gateway.map(|ip| ip.parse().unwrap()),
        source: None,
        device: device.parse().unwrap(),
        scope: None,
        metric: (dice.below(3) == 0).then_some(7),
    };
    RouteSpec::new(parts).unwrap()
}

fn routes(dice: &mut Dice) -> Vec<RouteSpec> {
    (0..=dice.below(4)).map(|_| a_route(dice)).collect()
}

/// Whether the kernel takes every gateway of these that is not there yet.
fn reachable(specs: &[RouteSpec], there: &Model) -> bool {
    let lost = |ip: IpAddr| ["192.0.2.1", "2001:db8:ffff::1"].contains(&ip.to_string().as_str());
    specs.iter().all(|spec| {
        !spec.fields().gateway.is_some_and(lost)
            || there.routes.contains_key(&Model::identity(&spec.resolve()))
    })
}

fn add_step(dice: &mut Dice, services: &Netcfg, model: &mut Model) -> (bool, bool) {
    let specs = routes(dice);
    let mut next = model.clone();
    let legal = next.add(&specs).is_ok() && reachable(&specs, model);
    if legal {
        *model = next;
    }
    (services.add_routes(&specs).is_ok(), legal)
}

fn delete_step(dice: &mut Dice, services: &Netcfg, model: &mut Model) -> (bool, bool) {
    let spec = a_route(dice);
    let pattern = RoutePattern {
        dest: Destination::Net(spec.fields().dest),
        gateway: spec.fields().gateway.filter(|_| dice.below(3) == 0),
        source: None,
        device: (dice.below(3) == 0).then(|| spec.fields().device.clone()),
        scope: None,
        metric: spec.fields().metric,
    };
    let legal = model.delete(&pattern).is_ok();
    (services.delete_routes(&[pattern]).is_ok(), legal)
}

fn replace_step(dice: &mut Dice, services: &Netcfg, model: &mut Model) -> (bool, bool) {
    let specs = routes(dice);
    let mut next = Model {
        routes: BTreeMap::new(),
        ..model.clone()
    };
    let legal = next.add(&specs).is_ok() && reachable(&specs, &Model::default());
    if legal {
        *model = next;
    }
    (services.replace_routes(&specs).is_ok(), legal)
}

fn address_step(dice: &mut Dice, services: &Netcfg, model: &mut Model) -> (bool, bool) {
    let device = *dice.one(&DEVICES);
    let number = if device == "eth1" { 1 } else { 2 };
    let mut wanted: Vec<String> = base(device).map(|b| b.0.to_owned()).to_vec();
    for last in 10..14 {
        if dice.below(2) == 0 {
            wanted.push(format!("192.168.{number}.{last}/{}", dice.one(&[24, 28])));
        }
        if dice.below(3) == 0 {
            wanted.push(format!("fd0{number}:1::{last}/{}", dice.one(&[64, 96])));
        }
    }
    // The order decides which IPv4 address is the first of its network.
    if dice.below(2) == 0 {
        wanted.reverse();
    }
    let list = wanted.iter().map(|text| address(text)).collect();
    let change = LinkChange::new(device.parse().unwrap(), Some(list), None, "addresses").unwrap();
    model.addresses.insert(device, wanted.into_iter().collect());
    let done = services
        .update(&change)
        .map_err(|error| Failure::from(&error));
    (done.is_ok(), true)
}

#[test]
fn random_changes_keep_to_a_plain_model() {
    let mut dice = Dice::new();
    let services = services();
    for device in DEVICES {
        for (address, _) in base(device) {
            ip(&format!("addr add {address} dev {device} nodad"));
        }
    }
    let mut model = Model::new();
    let (mut done, mut refused) = (0, 0);
    for step in 0..STEPS {
        let what = dice.below(8);
        let (ended_well, legal) = match what {
            0..3 => add_step(&mut dice, &services, &mut model),
            3..5 => delete_step(&mut dice, &services, &mut model),
            5 => replace_step(&mut dice, &services, &mut model),
            _ => address_step(&mut dice, &services, &mut model),
        };
        assert_eq!(ended_well, legal, "step {step}, of kind {what}: {model:#?}");
        let seen = Model::seen();
        assert_eq!(
            seen.addresses, model.addresses,
            "step {step}, of kind {what}"
        );
        assert_eq!(seen.routes, model.routes, "step {step}, of kind {what}");
        if legal { done += 1 } else { refused += 1 }
    }
    eprintln!("{done} steps done, {refused} refused");
    assert!(done > STEPS / 3 && refused > STEPS / 10);
}
