//! Sixteen commands at a time on one sandbox, some of them killed. Each is done whole or not at all,
//! none waits for ever, and what is there in the end is what some order of them makes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use patchbay_tests::tracer::{Outcome, Point, Stop, kill_at};
use patchbay_tests::{Card, Done, Guest, Machine, patchbay, rng, run};
use patchbay_types::failure::Kind;
use serde_json::{Value, json};

const CONTESTED: &str = "30.0.0.0/8";
const STEPS: usize = 20;
/// Longest that a command may take while fifteen others are at work.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one worker makes and removes, which no other touches.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Three routes at once.
    Routes(usize),
    /// The same, where another worker replaces all routes.
    Passing(usize),
    /// The whole table of routes: one set or the other.
    Table,
    Card(usize),
    Service(usize),
    /// One of two sets of addresses of the card that stays.
    Addresses,
    /// A way to where another wants one too, through another device: who comes first has it.
    Contested(&'static str),
    /// Looks only.
    Look,
}

const WORKERS: [Work; 16] = [
    Work::Routes(0),
    Work::Routes(1),
    Work::Routes(2),
    Work::Routes(3),
    Work::Routes(4),
    Work::Card(0),
    Work::Card(1),
    Work::Card(2),
    Work::Card(3),
    Work::Service(1),
    Work::Service(2),
    Work::Service(3),
    Work::Addresses,
    Work::Contested("base"),
    Work::Contested("lo"),
    Work::Look,
];

const REPLACERS: [Work; 16] = [
    Work::Table,
    Work::Passing(0),
    Work::Passing(1),
    Work::Passing(2),
    Work::Passing(3),
    Work::Passing(4),
    Work::Contested("base"),
    Work::Contested("lo"),
    Work::Card(0),
    Work::Card(1),
    Work::Service(1),
    Work::Service(2),
    Work::Addresses,
    Work::Look,
    Work::Look,
    Work::Look,
];

/// The sets of routes between which a table goes to and fro.
const ONE: usize = 8;
const OTHER: usize = 9;

/// The two states of what a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Absent,
    Present,
}

/// What may be so: after a command was killed, either.
type May = BTreeSet<State>;

/// The card that stays.
fn base_card() -> Card {
    Card::named("base")
        .device("base")
        .mac("02:00:00:00:00:01")
        .address("172.16.0.3/16")
}

fn addresses(last: u8) -> Value {
    json!({"name": "base", "IPAddresses": [{"address": format!("172.16.0.{last}"), "mask": "16"}]})
}

fn routes(number: usize) -> Value {
    let route = |last| json!({"dest": format!("20.{number}.{last}.0/24"), "device": "base"});
    Value::from_iter([route(1), route(2), route(3)])
}

impl Work {
    /// The command that leads to this state.
    fn command(self, guest: &Guest, to: State) -> (Command, String) {
        let kata = |command: &str, document: Value| {
            let words = ["kata-network", command, guest.id(), "-"];
            (patchbay(guest.run_dir(), &words), document.to_string())
        };
        let plain = |words: &[&str]| (patchbay(guest.run_dir(), words), String::new());
        match (self, to) {
            (Self::Routes(number) | Self::Passing(number), State::Present) => {
                kata("add-route", routes(number))
            }
            (Self::Routes(number) | Self::Passing(number), State::Absent) => {
                kata("del-route", routes(number))
            }
            (Self::Table, State::Present) => kata("update-routes", routes(ONE)),
            (Self::Table, State::Absent) => kata("update-routes", routes(OTHER)),
            (Self::Card(number), to) => {
                let card = json!({"device": format!("t{number}"), "name": format!("c{number}"),
                    "hwAddr": format!("02:00:00:00:01:0{number}"), "mtu": 1500});
                let command = match to {
                    State::Present => "add-iface",
                    State::Absent => "del-iface",
                };
                kata(command, card)
            }
            (Self::Service(mark), to) => {
                let words = match to {
                    State::Present => format!("-A -f {mark} -s rr"),
                    State::Absent => format!("-D -f {mark}"),
                };
                plain(&["kata-ipvs", "ipvsadm", "--parameters", &words, guest.id()])
            }
            (Self::Addresses, State::Present) => kata("update-iface", addresses(3)),
            (Self::Addresses, State::Absent) => kata("update-iface", addresses(4)),
            (Self::Contested(device), to) => {
                let route = json!({"dest": CONTESTED, "device": device});
                let command = match to {
                    State::Present => "add-route",
                    State::Absent => "del-route",
                };
                kata(command, route)
            }
            (Self::Look, State::Present) => plain(&["kata-network", "list-ifaces", guest.id()]),
            (Self::Look, State::Absent) => plain(&["kata-network", "list-routes", guest.id()]),
        }
    }

    /// How the command may end where this may be so.
    fn ends(self, to: State, may: &May) -> Vec<i32> {
        let exit = |kind: Kind| i32::from(kind.exit_code());
        let other = match (self, to) {
            (Self::Routes(_) | Self::Service(_), State::Absent) => exit(Kind::NotFound),
            (Self::Service(_), State::Present) => exit(Kind::Exists),
            (Self::Contested(_), State::Present) => return vec![0, exit(Kind::Exists)],
            (Self::Contested(_) | Self::Passing(_), State::Absent) => {
                return vec![0, exit(Kind::NotFound)];
            }
            _ => return vec![0],
        };
        // It is refused where it has nothing to do.
        let ends = may.iter().map(|state| if *state == to { other } else { 0 });
        ends.collect()
    }

    /// By programs in the guest and QEMU's monitor.
    fn is(self, seen: &Seen) -> State {
        let count = match self {
            Self::Routes(number) | Self::Passing(number) => seen.routes_of(number),
            Self::Table => {
                let (one, other) = (seen.routes_of(ONE), seen.routes_of(OTHER));
                assert_eq!(one + other, 3, "{seen:?}");
                one
            }
            Self::Card(number) => {
                let links = seen.links.contains(&format!("c{number}"));
                let device = seen.devices.contains(&format!("pbd.c{number}"));
                let journal = seen.journal.contains(&format!("c{number}.json"));
                let tap = seen.taps.contains(&format!("t{number}"));
                assert!([device, journal, tap] == [links; 3], "{self:?}: {seen:?}");
                usize::from(links)
            }
            Self::Service(mark) => {
                usize::from(seen.services.contains(&format!("-A -f {mark} -s rr")))
            }
            Self::Addresses => {
                let [address] = seen.addresses.as_slice() else {
                    panic!("{seen:?}")
                };
                usize::from(address == "172.16.0.3")
            }
            Self::Contested(_) => {
                let count = seen.routes.iter().filter(|dest| *dest == CONTESTED).count();
                assert!(count <= 1, "{seen:?}");
                count
            }
            Self::Look => 1,
        };
        if count == 0 {
            State::Absent
        } else {
            State::Present
        }
    }
}

/// What is there.
#[derive(Debug)]
struct Seen {
    /// Of the card that stays.
    addresses: Vec<String>,
    routes: Vec<String>,
    links: Vec<String>,
    devices: Vec<String>,
    taps: Vec<String>,
    journal: Vec<String>,
    services: Vec<String>,
}

impl Seen {
    fn routes_of(&self, set: usize) -> usize {
        all_or_none(set, self.routes.iter().map(String::as_str))
    }

    fn in_the_end(guest: &Guest) -> Self {
        let texts = |list: Value, key: &str| -> Vec<String> {
            let texts = list.as_array().unwrap().iter();
            texts
                .map(|entry| entry[key].as_str().unwrap().to_owned())
                .collect()
        };
        let journal = std::fs::read_dir(guest.file("cards")).unwrap();
        let base = guest.ip("-4 addr show base")[0]["addr_info"].take();
        Self {
            addresses: texts(base, "local"),
            routes: texts(guest.ip("route show"), "dst"),
            links: texts(guest.ip("link show"), "ifname"),
            devices: guest.monitor().devices(),
            taps: guest.netns().links(),
            journal: journal
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect(),
            services: guest
                .exec("ipvsadm -Sn")
                .ok()
                .lines()
                .map(|line| line.trim().to_owned())
                .collect(),
        }
    }
}

/// Works for a while; what may be so then.
fn work(work: Work, guest: &Guest, rng: &mut Rng) -> (May, usize) {
    let mut may = May::from([match work {
        Work::Addresses | Work::Look => State::Present,
        Work::Routes(_)
        | Work::Passing(_)
        | Work::Table
        | Work::Card(_)
        | Work::Service(_)
        | Work::Contested(_) => State::Absent,
    }]);
    let mut killed = 0;
    for _ in 0..STEPS {
        let to = *rng.choice(&[State::Absent, State::Present]).unwrap();
        let (mut command, input) = work.command(guest, to);
        let begun = Instant::now();
        let fate = if rng.u64(..4) == 0 {
            // Plugging takes more steps than the others have.
            let steps = if matches!(work, Work::Card(_)) { 60 } else { 8 };
            let step = rng.usize(..steps);
            let moment = *rng.choice(&[Stop::Before, Stop::After]).unwrap();
            kill_at(&command, &input, Point { step, moment })
        } else {
            Outcome::Exited(run(&mut command, &input))
        };
        assert!(
            begun.elapsed() < PATIENCE,
            "{work:?}: {:?}",
            begun.elapsed()
        );
        match fate {
            Outcome::Killed(_) => {
                may.insert(to);
                killed += 1;
            }
            Outcome::Exited(done) => {
                let ends = work.ends(to, &may);
                assert!(
                    ends.contains(&done.status),
                    "{work:?} to {to:?}, {may:?}: {done}"
                );
                whole(&done);
                may = May::from([to]);
            }
        }
    }
    (may, killed)
}

/// How many routes of a set are among these: all three or none.
fn all_or_none<'a>(set: usize, dests: impl Iterator<Item = &'a str>) -> usize {
    let ours = format!("20.{set}.");
    let there: Vec<_> = dests.filter(|dest| dest.starts_with(&ours)).collect();
    assert!(matches!(there.len(), 0 | 3), "{there:?}");
    there.len()
}

/// What a command lists of routes has each set whole.
fn whole(done: &Done) {
    let Ok(Value::Array(listed)) = serde_json::from_str(&done.out) else {
        return;
    };
    for set in 0..=OTHER {
        let dests = listed.iter().filter_map(|route| route["dest"].as_str());
        all_or_none(set, dests);
    }
}

#[test]
fn sixteen_at_a_time_leave_what_some_order_of_them_makes() {
    all_at_once(&WORKERS);
}

#[test]
fn a_table_of_routes_is_replaced_beside_fifteen_others() {
    all_at_once(&REPLACERS);
}

fn all_at_once(works: &[Work]) {
    let mut rng = rng();
    let guest = Guest::start(Machine::Q35);
    guest.plug(&base_card()).ok();
    let table = routes(OTHER).to_string();
    guest.kata_network("update-routes", &table).ok();
    let ended: Vec<(May, usize)> = thread::scope(|scope| {
        let workers: Vec<_> = works
            .iter()
            .map(|one| {
                let mut rng = rng.fork();
                let guest = &guest;
                scope.spawn(move || work(*one, guest, &mut rng))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    // A change of each sort: whatever was killed is cleared away, and no lock is left.
    let begun = Instant::now();
    for number in 0..4 {
        let last = json!({"name": format!("c{number}x")}).to_string();
        guest.kata_network("del-iface", &last).ok();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let seen = Seen::in_the_end(&guest);
    for (one, (may, _)) in works.iter().zip(&ended) {
        let is = one.is(&seen);
        let looks = matches!(one, Work::Look | Work::Contested(_) | Work::Passing(_));
        assert!(
            looks || may.contains(&is),
            "{one:?}: {is:?}, {may:?}: {seen:?}"
        );
    }
    let killed: usize = ended.iter().map(|(_, killed)| killed).sum();
    eprintln!("{killed} of {} commands were killed", works.len() * STEPS);
    assert!(killed > 0);
}
