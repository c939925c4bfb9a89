//! Random documents, compared with a model: after each one, `export` and the guest's own programs show
//! exactly the model, also after refusals and kills in between.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use patchbay_tests::tracer::{Outcome, Point, Stop, kill_at};
use patchbay_tests::{Cases, Guest, Machine, rng};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

use super::super::random;
use super::{apply, apply_command};

/// Number of documents in a sample and in a full run.
const DOCUMENTS: Cases = Cases {
    sample: 30,
    full: 200,
};
/// One in this number of documents is refused, one is killed.
const RARELY: usize = 6;
/// More than the steps of any command.
const MAX_STEPS: usize = 160;

const CARDS: [&str; 3] = ["c1", "c2", "c3"];
const SYSCTLS: [(&str, [i64; 2]); 3] = [
    ("net.ipv4.ip_forward", [0, 1]),
    ("net.netfilter.nf_conntrack_max", [4096, 8192]),
    ("sloppy_tcp", [0, 1]),
];

/// Card: device, MTU, addresses.
type Card = (String, u32, BTreeSet<String>);

/// Network of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    cards: BTreeMap<String, Card>,
    /// Gateway and device by destination and metric, in iproute2's notation.
    routes: BTreeMap<(String, u64), (Option<String>, String)>,
    /// Link-layer address by address and device.
    neighbors: BTreeMap<(String, String), String>,
    rules: BTreeSet<String>,
    sysctls: BTreeMap<&'static str, i64>,
}

fn number(card: &str) -> &str {
    &card[1..]
}

impl Model {
    /// Returns a random network. A card keeps addresses that its gateways need.
    fn random(rng: &mut Rng) -> Self {
        let mut model = Self::default();
        let count = rng.usize(..=CARDS.len());
        for card in rng.choose_multiple(CARDS, count) {
            let n = number(card);
            let mut addresses =
                BTreeSet::from([format!("172.16.{n}.3/24"), format!("fd0{n}::3/64")]);
            addresses.extend(
                (10..13)
                    .filter(|_| rng.bool())
                    .map(|last| format!("192.168.{n}.{last}/28")),
            );
            let device = if rng.u8(..4) == 0 { "u" } else { "t" };
            let mtu = *rng.choice(&[1400, 1500]).unwrap();
            model
                .cards
                .insert((*card).to_owned(), (format!("{device}{n}"), mtu, addresses));
        }
        model.add_routes(rng);
        model.add_neighbors(rng);
        model.add_rules(rng);
        model.sysctls = SYSCTLS
            .iter()
            .map(|(name, values)| (*name, *rng.choice(values).unwrap()))
            .collect();
        model
    }

    fn add_routes(&mut self, rng: &mut Rng) {
        let cards: Vec<String> = self.cards.keys().cloned().collect();
        for _ in 0..rng.usize(..6) {
            let Some(card) = rng.choice(&cards).cloned() else {
                break;
            };
            let n = number(&card);
            let (dests, gateway, usual) = if rng.bool() {
                (
                    ["20.1.0.0/16", "20.2.3.4/32", "0.0.0.0/0"],
                    format!("172.16.{n}.1"),
                    0,
                )
            } else {
                (
                    ["2001:db8:1::/48", "2001:db8::1/128", "::/0"],
                    format!("fd0{n}::1"),
                    1024,
                )
            };
            let metric = if rng.u8(..3) == 0 { 7 } else { usual };
            let gateway = (rng.u8(..3) > 0).then_some(gateway);
            let dest = (*rng.choice(&dests).unwrap()).to_owned();
            self.routes.insert((dest, metric), (gateway, card));
        }
    }

    fn add_neighbors(&mut self, rng: &mut Rng) {
        let cards: Vec<String> = self.cards.keys().cloned().collect();
        for _ in 0..rng.usize(..4) {
            let Some(card) = rng.choice(&cards).cloned() else {
                break;
            };
            let ip = format!("172.16.{}.{}", number(&card), 100 + rng.u8(..4));
            self.neighbors
                .insert((ip, card), format!("02:00:00:00:09:0{}", rng.u8(..9)));
        }
    }

    fn add_rules(&mut self, rng: &mut Rng) {
        let count = rng.usize(..=3);
        for port in rng.choose_multiple(80..83, count) {
            let scheduler = rng.choice(&["rr", "wlc"]).unwrap();
            self.rules
                .insert(format!("-A -t 10.0.0.1:{port} -s {scheduler}"));
            let count = rng.usize(..=3);
            for last in rng.choose_multiple(2..5, count) {
                let weight = rng.u8(..3);
                self.rules.insert(format!(
                    "-a -t 10.0.0.1:{port} -r 10.0.0.{last}:{port} -m -w {weight}"
                ));
            }
        }
    }

    /// Takes the sections that a document has. Routes and neighbors end with their card.
    fn take(&mut self, wanted: &Self, sections: &BTreeSet<&str>) {
        let has = |section: &str| sections.contains(section);
        if has("interfaces") {
            let is_same = |card: &String| {
                let device = |model: &Self| model.cards.get(card).map(|card| card.0.clone());
                device(self) == device(wanted)
            };
            let gone: BTreeSet<String> = self
                .cards
                .keys()
                .filter(|card| !is_same(card))
                .cloned()
                .collect();
            self.routes.retain(|_, (_, device)| !gone.contains(device));
            self.neighbors
                .retain(|(_, device), _| !gone.contains(device));
            self.cards.clone_from(&wanted.cards);
        }
        // Other devices don't exist.
        let exists = |device: &String| self.cards.contains_key(device);
        if has("routes") {
            self.routes = wanted.routes.clone();
            self.routes.retain(|_, (_, device)| exists(device));
        }
        if has("neighbors") {
            self.neighbors = wanted.neighbors.clone();
            self.neighbors.retain(|(_, device), _| exists(device));
        }
        if has("ipvs") {
            self.rules.clone_from(&wanted.rules);
        }
        if has("sysctls") {
            self.sysctls.clone_from(&wanted.sysctls);
        }
    }

    /// Returns the document of these sections.
    fn document(&self, sections: &BTreeSet<&str>) -> Value {
        let interfaces = self.cards.iter().map(|(name, (device, mtu, addresses))| {
            let addresses = addresses.iter().map(|text| {
                let (address, mask) = text.split_once('/').unwrap();
                json!({"address": address, "mask": mask})
            });
            json!({"device": device, "name": name, "mtu": mtu, "IPAddresses": addresses.collect::<Vec<_>>(),
                "hwAddr": format!("02:42:20:6f:a3:0{}", number(name))})
        });
        let routes = self
            .routes
            .iter()
            .map(|((dest, metric), (gateway, device))| {
                let mut route = json!({"dest": dest, "device": device});
                if let Some(gateway) = gateway {
                    route["gateway"] = json!(gateway);
                }
                if ![0, 1024].contains(metric) {
                    route["metric"] = json!(metric);
                }
                route
            });
        let neighbors = self.neighbors.iter().map(|((address, device), lladdr)| {
            json!({"address": address, "device": device, "lladdr": lladdr})
        });
        let mut document = json!({
            "interfaces": interfaces.collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
            "neighbors": neighbors.collect::<Vec<_>>(),
            "ipvs": self.rules,
            "sysctls": self.sysctls,
        });
        let members = document.as_object_mut().unwrap();
        members.retain(|section, _| sections.contains(section.as_str()));
        document
    }

    /// Reads the exported document.
    fn exported(guest: &Guest) -> Self {
        let document = guest
            .patchbay(&["export", guest.id(), "--format", "json"])
            .json();
        let list = |section: &str| document[section].as_array().unwrap().clone();
        let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let some = |value: &Value, key: &str| text(value, key).unwrap();
        let mut model = Self::default();
        for card in list("interfaces") {
            let addresses = card["IPAddresses"].as_array().unwrap().iter();
            let addresses =
                addresses.map(|one| format!("{}/{}", some(one, "address"), some(one, "mask")));
            let mtu = u32::try_from(card["mtu"].as_u64().unwrap()).unwrap();
            model.cards.insert(
                some(&card, "name"),
                (some(&card, "device"), mtu, addresses.collect()),
            );
        }
        for route in list("routes") {
            let gateway = text(&route, "gateway");
            let is_v6 = gateway
                .as_deref()
                .unwrap_or(&some(&route, "dest"))
                .contains(':');
            let dest = match some(&route, "dest").as_str() {
                "default" if is_v6 => "::/0".to_owned(),
                "default" => "0.0.0.0/0".to_owned(),
                dest => dest.to_owned(),
            };
            let usual = if is_v6 { 1024 } else { 0 };
            let metric = route["metric"].as_u64().unwrap_or(usual);
            model
                .routes
                .insert((dest, metric), (gateway, some(&route, "device")));
        }
        for neighbor in list("neighbors") {
            let key = (some(&neighbor, "address"), some(&neighbor, "device"));
            model.neighbors.insert(key, some(&neighbor, "lladdr"));
        }
        let rules = document["ipvs"].as_str().unwrap_or_default();
        model.rules = rules.lines().map(str::to_owned).collect();
        for (name, _) in SYSCTLS {
            model.sysctls.extend(
                document["sysctls"][name]
                    .as_i64()
                    .map(|value| (name, value)),
            );
        }
        model
    }

    /// Reads the guest's state by its own programs. Devices of the host are those of QEMU's TAPs.
    fn observed(guest: &Guest) -> Self {
        let random::Model { cards, routes } = random::Model::observed(guest);
        let script = "ip neigh show nud permanent; ipvsadm -Sn; ip -o link show | sed 's/^[0-9]*: /link /'; \
            cd /proc/sys/net; grep . ipv4/ip_forward netfilter/nf_conntrack_max ipv4/vs/sloppy_tcp";
        let mut model = Self {
            routes,
            ..Self::default()
        };
        let mut mtus = BTreeMap::new();
        let shown = guest.shell(script).out;
        for line in shown.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [ip, "dev", device, "lladdr", lladdr, "PERMANENT"] => {
                    model
                        .neighbors
                        .insert((ip.to_owned(), device.to_owned()), lladdr.to_owned());
                }
                ["-A" | "-a", ..] => drop(model.rules.insert(words.join(" "))),
                ["link", name, _, "mtu", mtu, ..] => {
                    mtus.insert(name.trim_end_matches(':'), mtu.parse().unwrap());
                }
                _ => {
                    let (path, value) = line.split_once(':').unwrap();
                    let name = SYSCTLS
                        .iter()
                        .find(|(name, _)| name.ends_with(path.rsplit('/').next().unwrap()));
                    model
                        .sysctls
                        .insert(name.unwrap().0, value.parse().unwrap());
                }
            }
        }
        let links = guest.netns().links();
        for (name, addresses) in cards {
            let own = |prefix: &str| format!("{prefix}{}", number(&name));
            let device = ["t", "u"]
                .map(own)
                .into_iter()
                .find(|tap| links.contains(tap));
            let mtu = mtus[name.as_str()];
            model.cards.insert(name, (device.unwrap(), mtu, addresses));
        }
        model
    }
}

/// Makes a document that the kernel refuses after other changes.
fn spoil(document: &mut Value, rng: &mut Rng) -> (Kind, &'static str) {
    if rng.bool() {
        document["ipvs"] = json!(["-A -t 10.0.0.1:80 -s nosuch"]);
        return (Kind::Unsupported, "nosuch");
    }
    document["routes"] = json!([{"dest": "30.0.0.0/8", "device": "lo", "gateway": "30.99.0.1"}]);
    (Kind::Kernel, "30.99.0.1")
}

#[test]
fn random_documents_match_model() {
    let count = DOCUMENTS.count();
    let mut rng = rng();
    let guest = Guest::start(Machine::Q35);
    // The settings exist once IPVS and conntrack are loaded.
    let all: BTreeSet<&str> = ["interfaces", "routes", "neighbors", "ipvs", "sysctls"].into();
    let mut model = Model::random(&mut rng);
    apply(&guest, &model.document(&all).to_string()).ok();
    let (mut refused, mut killed) = (0, 0);
    for number in 0..count {
        let sections = all.iter().copied().filter(|_| rng.u8(..3) > 0).collect();
        let mut next = model.clone();
        next.take(&Model::random(&mut rng), &sections);
        let document = next.document(&sections);
        match number % RARELY {
            0 => {
                let mut spoilt = document.clone();
                let (kind, message) = spoil(&mut spoilt, &mut rng);
                apply(&guest, &spoilt.to_string()).assert_error(kind, message);
                assert_eq!(Model::observed(&guest), model, "{number}: {spoilt}");
                assert_eq!(Model::exported(&guest), model, "{number}: {spoilt}");
                refused += 1;
            }
            1 => {
                let step = rng.usize(..MAX_STEPS);
                let point = Point {
                    step,
                    stop: Stop::Before,
                };
                let end = kill_at(&apply_command(&guest, &[]), &document.to_string(), point);
                killed += usize::from(matches!(end, Outcome::Killed(_)));
            }
            _ => {}
        }
        let done = apply(&guest, &document.to_string());
        assert_eq!(done.status, 0, "{number}: {done}\n{document}");
        assert_eq!(
            Model::observed(&guest),
            next,
            "{number}: {done}\n{document}"
        );
        assert_eq!(
            Model::exported(&guest),
            next,
            "{number}: {done}\n{document}"
        );
        model = next;
    }
    eprintln!("{count} documents, {refused} refused, {killed} killed");
    assert!(refused > 0 && killed > 0, "{refused} {killed}");
}
