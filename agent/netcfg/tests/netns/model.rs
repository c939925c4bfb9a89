//! Random changes of addresses and routes, compared with a plain model after each step. A request that
//! is invalid in the model must change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fastrand::Rng;
use patchbay_netcfg::ops::Netcfg;
use patchbay_types::failure::Failure;
use patchbay_types::{
    AddressDetail, Destination, LinkChange, Route, RoutePattern, RouteRequest, RouteSpec,
};

use crate::harness::{address, global_addresses, ip, ip_json, netcfg_with_veths, pick, seeded_rng};

const STEPS: usize = 400;
const DEVICES: [&str; 2] = ["eth1", "eth2"];

/// Returns the addresses that a link always keeps, and the gateways that they reach.
fn base(device: &str) -> [(&'static str, &'static str); 2] {
    match device {
        "eth1" => [("172.16.0.3/16", "172.16.0.1"), ("fd01::3/64", "fd01::1")],
        _ => [("10.9.0.3/16", "10.9.0.1"), ("fd02::3/64", "fd02::1")],
    }
}

/// Expected state of the kernel.
#[derive(Debug, Clone, Default)]
struct Model {
    addresses: BTreeMap<&'static str, BTreeSet<String>>,
    /// Gateway and device by destination and metric, in iproute2's format.
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

    /// Reads the state of the kernel, without routes and addresses that it made by itself.
    fn read() -> Self {
        let mut seen = Self::default();
        for device in DEVICES {
            let addresses = global_addresses(device).into_iter().collect();
            seen.addresses.insert(device, addresses);
        }
        for family in ["-4", "-6"] {
            for route in ip_json(&format!("{family} route show")).as_array().unwrap() {
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
        (gateway, route.device.to_string())
    }

    /// Adds all routes, or none.
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

    /// Deletes the routes that match, of which there must be one.
    fn delete(&mut self, pattern: &RoutePattern) -> Result<(), ()> {
        let before = self.routes.len();
        let Destination::Net(net) = pattern.dest else {
            panic!("the test has no pattern for default routes");
        };
        self.routes.retain(|(dest, metric), (gateway, device)| {
            let matches = *dest == net.trunc().to_string()
                && pattern
                    .gateway
                    .is_none_or(|ip| Some(ip.to_string()) == *gateway)
                && pattern
                    .device
                    .as_ref()
                    .is_none_or(|name| name.to_string() == *device)
                && pattern.metric.is_none_or(|m| u64::from(m) == *metric);
            !matches
        });
        if self.routes.len() == before {
            Err(())
        } else {
            Ok(())
        }
    }
}

/// Returns a route to one of a few destinations, so that requests affect each other.
fn random_route(rng: &mut Rng) -> RouteSpec {
    let device = *pick(rng, &DEVICES);
    let v4 = rng.u64(..2) == 0;
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
    let dest = *pick(rng, &dest);
    // A default route without a gateway would make every gateway reachable.
    let has_gateway = dest.ends_with("/0") || rng.u64(..3) > 0;
    let mut gateway = has_gateway.then_some(if v4 { v4_base.1 } else { v6_base.1 });
    // An unreachable gateway, which the kernel refuses.
    if rng.u64(..12) == 0 {
        gateway = Some(if v4 { "192.0.2.1" } else { "2001:db8:ffff::1" });
    }
    let parts = RouteRequest {
        gateway: gateway.map(|ip| ip.parse().unwrap()),
        metric: (rng.u64(..3) == 0).then_some(7),
        ..RouteRequest::open(dest.parse().unwrap(), device.parse().unwrap())
    };
    RouteSpec::new(parts).unwrap()
}

fn random_routes(rng: &mut Rng) -> Vec<RouteSpec> {
    (0..=rng.u64(..4)).map(|_| random_route(rng)).collect()
}

/// Returns whether the kernel accepts the gateways of the routes that don't exist yet.
fn reachable(specs: &[RouteSpec], existing: &Model) -> bool {
    let is_unreachable =
        |ip: IpAddr| ["192.0.2.1", "2001:db8:ffff::1"].contains(&ip.to_string().as_str());
    specs.iter().all(|spec| {
        !spec.fields().gateway.is_some_and(is_unreachable)
            || existing
                .routes
                .contains_key(&Model::identity(&spec.resolve()))
    })
}

fn add_step(rng: &mut Rng, netcfg: &Netcfg, model: &mut Model) -> (bool, bool) {
    let specs = random_routes(rng);
    let mut next = model.clone();
    let valid = next.add(&specs).is_ok() && reachable(&specs, model);
    if valid {
        *model = next;
    }
    (netcfg.add_routes(&specs).is_ok(), valid)
}

fn delete_step(rng: &mut Rng, netcfg: &Netcfg, model: &mut Model) -> (bool, bool) {
    let spec = random_route(rng);
    let device = (rng.u64(..3) == 0).then(|| spec.fields().device.clone());
    let pattern = RoutePattern {
        gateway: spec.fields().gateway.filter(|_| rng.u64(..3) == 0),
        metric: spec.fields().metric,
        ..RoutePattern::open(Destination::Net(spec.fields().dest), device)
    };
    let valid = model.delete(&pattern).is_ok();
    (netcfg.delete_routes(&[pattern]).is_ok(), valid)
}

fn replace_step(rng: &mut Rng, netcfg: &Netcfg, model: &mut Model) -> (bool, bool) {
    let specs = random_routes(rng);
    let mut next = Model {
        routes: BTreeMap::new(),
        ..model.clone()
    };
    let valid = next.add(&specs).is_ok() && reachable(&specs, &Model::default());
    if valid {
        *model = next;
    }
    (netcfg.replace_routes(&specs).is_ok(), valid)
}

fn address_step(rng: &mut Rng, netcfg: &Netcfg, model: &mut Model) -> (bool, bool) {
    let device = *pick(rng, &DEVICES);
    let number = if device == "eth1" { 1 } else { 2 };
    let mut wanted: Vec<String> = base(device).map(|b| b.0.to_owned()).to_vec();
    for last in 10..14 {
        if rng.u64(..2) == 0 {
            wanted.push(format!("192.168.{number}.{last}/{}", pick(rng, &[24, 28])));
        }
        if rng.u64(..3) == 0 {
            wanted.push(format!("fd0{number}:1::{last}/{}", pick(rng, &[64, 96])));
        }
    }
    // The order determines the primary IPv4 address of a network.
    if rng.u64(..2) == 0 {
        wanted.reverse();
    }
    let list = wanted.iter().map(|text| address(text)).collect();
    let change = LinkChange::new(device.parse().unwrap(), Some(list), None, "addresses").unwrap();
    model.addresses.insert(device, wanted.into_iter().collect());
    let updated = netcfg
        .update(&change, AddressDetail::Listed)
        .map_err(Failure::from);
    (updated.is_ok(), true)
}

#[test]
fn random_changes_match_model() {
    let mut rng = seeded_rng();
    let netcfg = netcfg_with_veths();
    for device in DEVICES {
        for (address, _) in base(device) {
            ip(&format!("addr add {address} dev {device} nodad"));
        }
    }
    let mut model = Model::new();
    let (mut done, mut refused) = (0, 0);
    for step in 0..STEPS {
        let kind = rng.u64(..8);
        let (succeeded, valid) = match kind {
            0..3 => add_step(&mut rng, &netcfg, &mut model),
            3..5 => delete_step(&mut rng, &netcfg, &mut model),
            5 => replace_step(&mut rng, &netcfg, &mut model),
            _ => address_step(&mut rng, &netcfg, &mut model),
        };
        assert_eq!(succeeded, valid, "step {step}, of kind {kind}: {model:#?}");
        let seen = Model::read();
        assert_eq!(
            seen.addresses, model.addresses,
            "step {step}, of kind {kind}"
        );
        assert_eq!(seen.routes, model.routes, "step {step}, of kind {kind}");
        if valid { done += 1 } else { refused += 1 }
    }
    eprintln!("{done} steps done, {refused} refused");
    assert!(done > STEPS / 3 && refused > STEPS / 10);
}
