//! Sixteen concurrent commands on one sandbox, some of them killed. Each takes effect completely or not
//! at all, none hangs, and the final state is that of some serial order.

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
/// Time limit of a command beside fifteen others.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Object that one worker creates and removes. Workers share none of them, except contested ones.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Three routes in one request.
    Routes(usize),
    /// The same beside a worker that replaces all routes.
    Passing(usize),
    /// The complete routing table, which alternates between two sets.
    Table,
    Card(usize),
    Service(usize),
    /// Addresses of the permanent card, which alternate between two sets.
    Addresses,
    /// A route that another worker adds through another device; the first one succeeds.
    Contested(&'static str),
    /// Nothing: the worker only lists.
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

/// The two sets of routes of [`Work::Table`].
const ONE: usize = 8;
const OTHER: usize = 9;

/// State of a worker's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Absent,
    Present,
}

/// Possible states: both after a command was killed.
type Possible = BTreeSet<State>;

/// The permanent card.
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
    /// Returns the command that leads to this state, with its input.
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

    /// Returns the valid exit codes of the command, given the possible states before it.
    fn valid_exit_codes(self, to: State, possible: &Possible) -> Vec<i32> {
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
        // A command with nothing to do fails.
        let codes = possible
            .iter()
            .map(|state| if *state == to { other } else { 0 });
        codes.collect()
    }

    /// Returns the state that programs in the guest and QEMU's monitor show.
    fn observed_state(self, seen: &Seen) -> State {
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

/// State of the sandbox in the end.
#[derive(Debug)]
struct Seen {
    /// Addresses of the permanent card.
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
        let base = guest.ip("-4 addr show base")[0]["addr_info"].take();
        // Before the programs in the guest, for which the monitor has to be free.
        let devices = guest.monitor().devices();
        Self {
            addresses: texts(base, "local"),
            routes: texts(guest.ip("route show"), "dst"),
            links: texts(guest.ip("link show"), "ifname"),
            devices,
            taps: guest.netns().links(),
            journal: guest.journal(),
            services: guest
                .exec("ipvsadm -Sn")
                .ok()
                .lines()
                .map(|line| line.trim().to_owned())
                .collect(),
        }
    }
}

/// Runs the steps of a worker. Returns the possible states of its object and the number of killed
/// commands.
fn work(work: Work, guest: &Guest, rng: &mut Rng) -> (Possible, usize) {
    let mut possible = Possible::from([match work {
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
            // Plugging has more steps than other commands.
            let steps = if matches!(work, Work::Card(_)) { 60 } else { 8 };
            let number = rng.usize(..steps);
            let stop = *rng.choice(&[Stop::Before, Stop::After]).unwrap();
            kill_at(&command, &input, Point { step: number, stop })
        } else {
            Outcome::Exited(run(&mut command, &input))
        };
        assert!(
            begun.elapsed() < COMMAND_TIMEOUT,
            "{work:?}: {:?}",
            begun.elapsed()
        );
        match fate {
            Outcome::Killed(_) => {
                possible.insert(to);
                killed += 1;
            }
            Outcome::Exited(done) => {
                let codes = work.valid_exit_codes(to, &possible);
                assert!(
                    codes.contains(&done.status),
                    "{work:?} to {to:?}, {possible:?}: {done}"
                );
                assert_complete_sets(&done);
                possible = Possible::from([to]);
            }
        }
    }
    (possible, killed)
}

/// Counts the routes of a set; asserts that there are three or none.
fn all_or_none<'a>(set: usize, dests: impl Iterator<Item = &'a str>) -> usize {
    let ours = format!("20.{set}.");
    let there: Vec<_> = dests.filter(|dest| dest.starts_with(&ours)).collect();
    assert!(matches!(there.len(), 0 | 3), "{there:?}");
    there.len()
}

/// Asserts that a command that lists routes shows each set completely or not at all.
fn assert_complete_sets(done: &Done) {
    let Ok(Value::Array(listed)) = serde_json::from_str(&done.out) else {
        return;
    };
    for set in 0..=OTHER {
        let dests = listed.iter().filter_map(|route| route["dest"].as_str());
        all_or_none(set, dests);
    }
}

#[test]
fn sixteen_concurrent_commands_are_serializable() {
    run_concurrently(&WORKERS);
}

#[test]
fn update_routes_beside_others_is_atomic() {
    run_concurrently(&REPLACERS);
}

fn run_concurrently(works: &[Work]) {
    let mut rng = rng();
    let guest = Guest::start(Machine::Q35);
    guest.plug(&base_card()).ok();
    let table = routes(OTHER).to_string();
    guest.kata_network("update-routes", &table).ok();
    let ended: Vec<(Possible, usize)> = thread::scope(|scope| {
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
    // These commands clean up after killed ones, and show that no lock is left.
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
    for (one, (possible, _)) in works.iter().zip(&ended) {
        let state = one.observed_state(&seen);
        let skipped = matches!(one, Work::Look | Work::Contested(_) | Work::Passing(_));
        assert!(
            skipped || possible.contains(&state),
            "{one:?}: {state:?}, {possible:?}: {seen:?}"
        );
    }
    let killed: usize = ended.iter().map(|(_, killed)| killed).sum();
    eprintln!("{killed} of {} commands were killed", works.len() * STEPS);
    assert!(killed > 0);
}
