//! Scenarios: commands one after the other or at the same time, with faults, then a recovery without.

use std::fmt;
use std::fs;
use std::path::Path;
use std::slice;

use fastrand::Rng;
use nix::sched::{CloneFlags, setns};
use patchbay_tests::Netns;
use serde_json::json;

use crate::faults::{Fault, Faults};
use crate::judge::{judge, judge_failures, judge_files, judge_others, unfinished_plugs};
use crate::memory::SECOND;
use crate::operation::{Card, Expected, Operation, State};
use crate::process::End;
use crate::qemu::Removal;
use crate::world::World;

/// Names of the cards.
pub(crate) const NAMES: [&str; 3] = ["eth1", "eth2", "eth3"];
/// Host devices of the cards.
pub(crate) const DEVICES: [(&str, Host); 3] = [
    ("tap1", Host::None),
    ("tap2", Host::Device),
    (SOCKET, Host::Socket),
];
/// Name of the socket of a vhost-user backend.
pub(crate) const SOCKET: &str = "vhost-user3";

/// Host device before its card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    None,
    Device,
    /// Socket of a vhost-user backend.
    Socket,
}

/// Commands that run at the same time, and their faults.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) operations: Vec<Operation>,
    pub(crate) faults: Faults,
}

/// Scenario, which a seed reproduces.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) rounds: Vec<Round>,
}

/// Outcome of a scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) steps: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) judgement: Result<(), String>,
}

/// Number of operations with a state before, for each card, in which every step has each fault.
const PREPARED: usize = 6;
/// Number of steps that no operation without another at the same time exceeds.
const LONGEST: u64 = 160;
/// Exit status of a command that names an absent interface.
const NOT_FOUND: i32 = 3;
/// Most commands without faults until all is cleaned up.
const RECOVERIES: usize = 4;

/// Returns a card with a random configuration.
fn card(rng: &mut Rng, index: usize) -> Card {
    Card {
        name: NAMES[index],
        device: DEVICES[index].0,
        mac: format!("02:00:00:00:00:{:02x}", index + 1),
        mtu: rng.choice([1280, 1400, 1500, 9000]).unwrap(),
        address: rng.u8(2..6),
    }
}

/// Returns random rounds.
fn random(rng: &mut Rng) -> Vec<Round> {
    let count = rng.usize(1..6);
    let round = |rng: &mut Rng| {
        let count = rng.choice([1, 1, 1, 2, 2, 3]).unwrap();
        let one_in = rng.choice([10, 30, 100, 300]).unwrap();
        let faults = [Faults::None, Faults::Random(one_in)];
        Round {
            operations: (0..count).map(|_| operation(rng)).collect(),
            faults: faults[usize::from(rng.u8(..4) > 0)],
        }
    };
    (0..count).map(|_| round(rng)).collect()
}

/// Returns rounds in which one step of an operation has a fault, and random ones of the next operation.
fn planned(rng: &mut Rng, number: u64) -> Vec<Round> {
    let faults = Fault::ALL.len() as u64;
    let fault = Fault::ALL[usize::try_from(number % faults).unwrap()];
    let number = number / faults;
    let cases = (PREPARED * NAMES.len()) as u64;
    let case = usize::try_from(number % cases).unwrap();
    let at = number / cases % LONGEST;
    let own = card(rng, case % NAMES.len());
    let Card {
        name, mtu, address, ..
    } = card(rng, case % NAMES.len());
    let plug = (Operation::Plug(own), Faults::None);
    let killed = (
        plug.0.clone(),
        Faults::Planned(rng.u64(..LONGEST), Fault::Crash),
    );
    let unplug = Operation::Unplug(name);
    let (before, operation) = match case / NAMES.len() {
        0 => (None, plug.0),
        1 => (Some(plug), unplug),
        2 => (Some(plug), Operation::Update(name, mtu, address)),
        3 => (Some(killed), Operation::Gc),
        4 => (Some(killed), plug.0),
        _ => (Some(killed), unplug),
    };
    let tested = (operation, Faults::Planned(at, fault));
    let next = (self::operation(rng), Faults::Random(40));
    let rounds = before.into_iter().chain([tested, next]);
    let round = |(operation, faults)| Round {
        operations: vec![operation],
        faults,
    };
    rounds.map(round).collect()
}

/// Returns a random operation.
fn operation(rng: &mut Rng) -> Operation {
    let index = rng.usize(..NAMES.len());
    let Card {
        name, mtu, address, ..
    } = card(rng, index);
    match rng.u8(..10) {
        0..4 => Operation::Plug(card(rng, index)),
        4..7 => Operation::Unplug(name),
        7..9 => Operation::Update(name, mtu, address),
        _ if rng.bool() => Operation::Gc,
        _ => Operation::List,
    }
}

impl Scenario {
    /// Returns the scenario of a seed. The even seeds have each fault at each step of each operation in turn,
    /// the odd ones are random.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rounds = match seed % 2 {
            0 => planned(&mut rng, seed / 2),
            _ => random(&mut rng),
        };
        Self { seed, rounds }
    }

    /// Runs the scenario.
    pub(crate) fn run(&self) -> Outcome {
        let netns = Netns::new();
        let shm = tempfile::tempdir_in("/dev/shm").unwrap();
        let folder = shm.path();
        let own = fs::File::open(Path::new("/run/netns").join(netns.name())).unwrap();
        setns(own, CloneFlags::CLONE_NEWNET).unwrap();
        for (device, host) in DEVICES {
            if host == Host::Device {
                netns.ip(&format!("tuntap add {device} mode tap")).ok();
            }
        }
        register(folder);
        let mut world = World::new(self.seed, folder);
        let judgement = self.play(&mut world, folder, &netns);
        Outcome {
            steps: world.steps,
            trace: std::mem::take(&mut world.trace),
            judgement,
        }
    }

    fn play(&self, world: &mut World, folder: &Path, netns: &Netns) -> Result<(), String> {
        let mut expected = Expected(NAMES.map(|name| (name, vec![State::Absent])).into());
        for round in &self.rounds {
            world.faults = round.faults;
            let left = unfinished_plugs(folder);
            let ends = run(world, folder, &round.operations);
            expected.note(&round.operations, &ends);
            judge_failures(&left, &unfinished_plugs(folder), &ends)?;
            judge_others(world)?;
        }
        world.faults = Faults::None;
        let later = world.clock.now() + world.rng.u64(..2) * 60 * SECOND;
        world.rest(later.max(world.busy_until));
        recover(world, folder)?;
        judge(world, folder, netns, &expected)?;
        for name in NAMES {
            end_with(world, folder, &Operation::Unplug(name), 0)?;
            expected.note(&[Operation::Unplug(name)], &[End::Exited(0, String::new())]);
        }
        judge(world, folder, netns, &expected)
    }
}

/// Registers the sandbox.
fn register(folder: &Path) {
    let sandbox = folder.join("sim");
    fs::create_dir(&sandbox).unwrap();
    let agent = format!("unix://{}", folder.join("agent.sock").display());
    let file = json!({"qmp": folder.join("qmp.sock"), "agent": agent, "netns": null});
    fs::write(sandbox.join("sandbox.json"), file.to_string()).unwrap();
}

fn run(world: &mut World, folder: &Path, operations: &[Operation]) -> Vec<End> {
    for operation in operations {
        world.trace(&format!("            {}", operation.words().join(" ")));
    }
    let commands: Vec<_> = operations
        .iter()
        .map(|operation| operation.command(folder))
        .collect();
    let ends = world.run(&commands);
    for end in &ends {
        world.trace(&format!("            {end}"));
    }
    ends
}

/// Repeats commands without faults until all is cleaned up.
fn recover(world: &mut World, folder: &Path) -> Result<(), String> {
    // gc leaves the MTU of a card to the next change of links. No card has this name.
    let change = Operation::Update("eth9", 1500, 9);
    let mut cleaned = Ok(());
    for _ in 0..RECOVERIES {
        cleaned = end_with(world, folder, &Operation::Gc, 0);
        if cleaned.is_ok() {
            judge_files(folder)?;
            end_with(world, folder, &change, NOT_FOUND)?;
            // The journal can have lost a removal whose record could not be written.
            let mut cards = world.qemu.cards();
            if cards.all(|(_, card)| card.removal == Removal::None) {
                return Ok(());
            }
        }
        let later = world.clock.now() + 60 * SECOND;
        world.rest(later);
    }
    cleaned
}

/// Runs an operation without faults, which ends with this status.
fn end_with(
    world: &mut World,
    folder: &Path,
    operation: &Operation,
    status: i32,
) -> Result<(), String> {
    match &run(world, folder, slice::from_ref(operation))[..] {
        [End::Exited(ended, _)] if *ended == status => Ok(()),
        ends => Err(format!("{:?} without a fault: {ends:?}", operation.words())),
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status, text) => write!(f, "exit {status} {}", text.trim_end()),
            Self::Killed => write!(f, "killed"),
        }
    }
}
