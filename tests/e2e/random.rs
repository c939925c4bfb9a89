//! Random changes of cards, addresses and routes, compared with a model: an illegal request fails and
//! changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use patchbay_tests::{Cases, Done, Guest, Machine, rng};
use serde_json::{Value, json};

const STEPS: Cases = Cases {
    sample: 150,
    full: 1000,
};
const CARDS: [&str; 3] = ["c1", "c2", "c3"];

/// Expected state of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    /// Addresses by card.
    pub(crate) cards: BTreeMap<String, BTreeSet<String>>,
    /// Gateway and device by destination and metric, in iproute2's notation.
    pub(crate) routes: BTreeMap<(String, u64), (Option<String>, String)>,
}

impl Model {
    /// Reads the state of the guest, without what its kernel created.
    pub(crate) fn observed(guest: &Guest) -> Self {
        let all = "ip -j addr show; ip -j -4 route show; ip -j -6 route show";
        let shown = guest
            .sandbox(&["exec", guest.id(), "--", "sh", "-c", all])
            .ok();
        let lists = serde_json::Deserializer::from_str(&shown).into_iter::<Value>();
        let lists: Vec<Value> = lists.map(Result::unwrap).collect();
        let mut seen = Self::default();
        for link in lists[0].as_array().unwrap() {
            let name = link["ifname"].as_str().unwrap();
            if name != "lo" {
                let infos = link["addr_info"].as_array().unwrap().iter();
                let global = infos.filter(|a| a["scope"] == "global");
                let texts =
                    global.map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]));
                seen.cards.insert(name.to_owned(), texts.collect());
            }
        }
        for (list, everywhere, host) in [(1, "0.0.0.0/0", "/32"), (2, "::/0", "/128")] {
            let routes = lists[list].as_array().unwrap().iter();
            for route in routes.filter(|route| route["protocol"] != "kernel") {
                let text = |key: &str| route[key].as_str().map(str::to_owned);
                let dest = match text("dst").unwrap().as_str() {
                    "default" => everywhere.to_owned(),
                    net if net.contains('/') => net.to_owned(),
                    address => format!("{address}{host}"),
                };
                let metric = route["metric"].as_u64().unwrap_or(0);
                seen.routes
                    .insert((dest, metric), (text("gateway"), text("dev").unwrap()));
            }
        }
        seen
    }

    /// Adds all routes or none; each device has to exist.
    fn add(&mut self, requested: &[Value]) -> bool {
        let mut routes = self.routes.clone();
        for route in requested {
            let way = way(route);
            let known = self.cards.contains_key(&way.1);
            if !known || *routes.entry(identity(route)).or_insert(way.clone()) != way {
                return false;
            }
        }
        self.routes = routes;
        true
    }

    fn delete(&mut self, requested: &Value) -> bool {
        let before = self.routes.len();
        self.routes.retain(|(dest, metric), (gateway, device)| {
            let agrees = dest == requested["dest"].as_str().unwrap()
                && requested["gateway"]
                    .as_str()
                    .is_none_or(|ip| Some(ip) == gateway.as_deref())
                && requested["device"]
                    .as_str()
                    .is_none_or(|name| name == device)
                && requested["metric"]
                    .as_u64()
                    .is_none_or(|number| number == *metric);
            !agrees
        });
        self.routes.len() < before
    }
}

fn way(route: &Value) -> (Option<String>, String) {
    let gateway = route["gateway"].as_str().map(str::to_owned);
    (gateway, route["device"].as_str().unwrap().to_owned())
}

fn identity(route: &Value) -> (String, u64) {
    let dest = route["dest"].as_str().unwrap().to_owned();
    let usual = if dest.contains(':') { 1024 } else { 0 };
    (dest, route["metric"].as_u64().unwrap_or(usual))
}

/// Returns the number in a card's name, which its addresses contain.
fn number(card: &str) -> &str {
    &card[1..]
}

/// Returns a random route, with few destinations so that requests collide.
fn a_route(rng: &mut Rng) -> Value {
    let device = *rng.choice(&CARDS).unwrap();
    let number = number(device);
    let (dest, router) = if rng.u64(..2) == 0 {
        let dests = ["20.1.0.0/16", "20.2.0.0/16", "20.3.4.5/32", "0.0.0.0/0"];
        (*rng.choice(&dests).unwrap(), format!("172.16.{number}.1"))
    } else {
        let dests = [
            "2001:db8:1::/48",
            "2001:db8:2::/48",
            "2001:db8::1/128",
            "::/0",
        ];
        (*rng.choice(&dests).unwrap(), format!("fd0{number}::1"))
    };
    let mut route = json!({"dest": dest, "device": device});
    if rng.u64(..3) > 0 {
        route["gateway"] = json!(router);
    }
    if rng.u64(..3) == 0 {
        route["metric"] = json!(7);
    }
    route
}

/// Returns the addresses that keep the gateways reachable, and random others.
fn some_addresses(rng: &mut Rng, card: &str) -> Vec<(String, &'static str)> {
    let number = number(card);
    let mut wanted = vec![
        (format!("172.16.{number}.3"), "24"),
        (format!("fd0{number}::3"), "64"),
    ];
    for last in 10..13 {
        if rng.u64(..2) == 0 {
            wanted.push((
                format!("192.168.{number}.{last}"),
                *rng.choice(&["24", "28"]).unwrap(),
            ));
        }
        if rng.u64(..3) == 0 {
            wanted.push((
                format!("fd0{number}:1::{last}"),
                *rng.choice(&["64", "96"]).unwrap(),
            ));
        }
    }
    if rng.u64(..2) == 0 {
        wanted.reverse();
    }
    wanted
}

fn texts(addresses: &[(String, &str)]) -> BTreeSet<String> {
    addresses
        .iter()
        .map(|(address, mask)| format!("{address}/{mask}"))
        .collect()
}

fn document(card: &str, addresses: &[(String, &str)]) -> Value {
    let addresses = addresses
        .iter()
        .map(|(address, mask)| json!({"address": address, "mask": mask}));
    json!({"name": card, "IPAddresses": addresses.collect::<Vec<_>>()})
}

/// Runs a random command; returns its name, its result and whether it was legal.
fn step(rng: &mut Rng, guest: &Guest, model: &mut Model) -> (&'static str, Done, bool) {
    let card = *rng.choice(&CARDS).unwrap();
    let addresses = some_addresses(rng, card);
    let requested: Vec<Value> = (0..=rng.u64(..4)).map(|_| a_route(rng)).collect();
    let before = model.clone();
    let (command, document, legal) = match rng.u64(..10) {
        0 => {
            let mut document = document(card, &addresses);
            document["device"] = json!(format!("t{card}"));
            document["hwAddr"] = json!(format!("02:42:20:6f:a3:0{}", number(card)));
            document["mtu"] = json!(1500);
            let there = model
                .cards
                .entry(card.to_owned())
                .or_insert(texts(&addresses));
            let legal = *there == texts(&addresses);
            ("add-iface", document, legal)
        }
        1 if rng.u64(..3) == 0 => {
            model.cards.remove(card);
            model.routes.retain(|_, (_, device)| device != card);
            ("del-iface", json!({"name": card}), true)
        }
        1..4 => {
            let there = model.cards.get_mut(card);
            let legal = there.map(|there| *there = texts(&addresses)).is_some();
            ("update-iface", document(card, &addresses), legal)
        }
        4..7 => ("add-route", json!(requested), model.add(&requested)),
        7..9 => {
            let mut pattern = requested[0].clone();
            for key in ["gateway", "device", "metric"] {
                if rng.u64(..2) == 0 {
                    pattern.as_object_mut().unwrap().remove(key);
                }
            }
            let legal = model.delete(&pattern);
            ("del-route", pattern, legal)
        }
        _ => {
            model.routes.clear();
            ("update-routes", json!(requested), model.add(&requested))
        }
    };
    if !legal {
        *model = before;
    }
    (
        command,
        guest.kata_network(command, &document.to_string()),
        legal,
    )
}

#[test]
fn random_changes_match_model() {
    let mut rng = rng();
    let guest = Guest::start(Machine::Q35);
    let mut model = Model::default();
    let mut counts: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for number in 0..STEPS.count() {
        let (command, done, legal) = step(&mut rng, &guest, &mut model);
        assert_eq!(
            done.status == 0,
            legal,
            "step {number}, {command}: {done}\n{model:#?}"
        );
        assert_eq!(
            Model::observed(&guest),
            model,
            "step {number}, {command}: {done}"
        );
        *counts.entry((command, legal)).or_default() += 1;
    }
    eprintln!("{counts:#?}");
    assert!(counts.len() >= 10, "{counts:?}");
}
