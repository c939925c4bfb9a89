//! A command is killed before and after each of its steps. After the next command the sandbox has
//! either its old state or the new one, also if a command between the two is killed as well.
//!
//! The state is that of QEMU's monitor, of QEMU's `/proc`, of `ip`, `ipvsadm` and the kernel's tables.
//! `make test` kills at a random one of the steps of each kind, and at a quarter of the kinds of QMP
//! queries, which change nothing; `make test-full` kills at all steps.

mod cards;
mod tables;

pub(crate) use self::cards::Outside;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use fastrand::Rng;
use patchbay_tests::tracer::{HANDSHAKE, Outcome, Point, Stop, kill_at, steps};
use patchbay_tests::{Card, Extent, Guest, patchbay};

/// Share of the points, one in this number, that are repeated with a second command that is killed
/// while it finishes or undoes the first.
const SECOND_KILLS: usize = 8;

/// Maximum number of runs for one point: some have fewer queries than the recorded run.
const ATTEMPTS: usize = 2;
/// Number of queries that a run can have less than the recorded one.
const SHORTER: usize = 12;

fn card() -> Card {
    Card::named("eth-test")
        .set("mtu", 1400)
        .address("172.16.0.3/16")
        .address("fd00::3/64")
        .queues(2)
}

/// A command and its standard input.
type Input<'a> = (&'a Command, &'a str);

/// Returns the points at which to kill a command with these steps.
fn points(rng: &mut Rng, steps: &[String]) -> Vec<Point> {
    let both = |step| [Stop::Before, Stop::After].map(|stop| Point { step, stop });
    let mut points: Vec<Point> = (0..steps.len()).flat_map(both).collect();
    // `kill_at` doesn't kill there.
    points.retain(|point| steps[point.step] != HANDSHAKE || point.stop == Stop::Before);
    match Extent::of_run() {
        Extent::Sample => sample(rng, steps, points),
        Extent::Full => points,
    }
}

/// Chooses one point of each kind, and of a quarter of the kinds of queries.
fn sample(rng: &mut Rng, steps: &[String], mut points: Vec<Point>) -> Vec<Point> {
    rng.shuffle(&mut points);
    let mut kinds = BTreeSet::new();
    points.retain(|point| kinds.insert((&steps[point.step], point.stop)));
    points.sort_by_key(|point| (point.step, point.stop));
    let is_query = |point: &Point| steps[point.step].starts_with("qmp q") && point.step > 0;
    points.retain(|point| !is_query(point) || rng.u64(..4) == 0);
    points
}

/// Asserts that a file is on the disk before it gets its name, and its name before the next step.
fn assert_durable(steps: &[String]) {
    for (position, step) in steps.iter().enumerate() {
        if let Some(unfinished) = step.strip_prefix("rename ") {
            assert_eq!(
                steps[position - 1],
                format!("fsync {unfinished}"),
                "{steps:?}"
            );
            let next = &steps[position + 1];
            assert!(
                next.starts_with("fsync "),
                "{next} follows {step}: {steps:?}"
            );
        }
    }
}

/// Kills the first of the commands at each point; `converge` runs the next command and asserts the
/// state. At some points, a random one of the commands is killed at a random point before that. Returns
/// the steps of the first command.
pub(crate) fn sweep(
    rng: &RefCell<Rng>,
    commands: &[Input<'_>],
    prepare: impl Fn(),
    converge: impl Fn(),
) -> Vec<String> {
    let begun = Instant::now();
    let (command, input) = commands[0];
    prepare();
    let (steps, done) = steps(command, input);
    done.ok();
    assert_durable(&steps);
    converge();
    let kill = |point: Point| {
        for _ in 0..ATTEMPTS {
            prepare();
            match kill_at(command, input, point) {
                Outcome::Killed(label) => return Some(label),
                Outcome::Exited(done) => drop(done.ok()),
            }
            converge();
        }
        None
    };
    let points = points(&mut rng.borrow_mut(), &steps);
    let mut killed: BTreeMap<(String, Stop), usize> = BTreeMap::new();
    let mut unreached = Vec::new();
    for point in &points {
        if let Some(label) = kill(*point) {
            eprintln!("killed {:?} {label} ({})", point.stop, point.step);
            *killed.entry((label, point.stop)).or_default() += 1;
            converge();
        } else {
            unreached.push(*point);
        }
    }
    // A run that waits less for the guest has fewer steps: those at its end come earlier.
    for point in unreached {
        let label = &steps[point.step];
        let reach = |shorter: usize| {
            let step = point.step.saturating_sub(shorter);
            let found = kill(Point { step, ..point });
            found.inspect(|_| converge()).as_ref() == Some(label)
        };
        assert!(
            killed.contains_key(&(label.clone(), point.stop)) || (1..=SHORTER).any(reach),
            "no run was killed at {label:?}, {:?}: {steps:?}",
            point.stop
        );
    }
    let (first, begun) = (begun.elapsed(), Instant::now());
    let second = kill_twice(rng, commands, &points, kill, &converge);
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    eprintln!(
        "{}: killed at {} points in {first:?}, then at {second} pairs in {:?}: {killed:?}",
        words.join(" "),
        points.len(),
        begun.elapsed()
    );
    steps
}

/// Kills at a share of the points, and then a random one of the commands at a random point. Returns the
/// number of those that were killed.
fn kill_twice(
    rng: &RefCell<Rng>,
    commands: &[Input<'_>],
    points: &[Point],
    kill: impl Fn(Point) -> Option<String>,
    converge: impl Fn(),
) -> usize {
    let count = points.len().div_ceil(SECOND_KILLS);
    let again = rng.borrow_mut().choose_multiple(points.iter(), count);
    let second = again.into_iter().filter(|point| {
        let Some(label) = kill(**point) else {
            return false;
        };
        let (command, input) = *rng.borrow_mut().choice(commands).unwrap();
        let place = rng.borrow_mut().usize(..points.len());
        // It need not succeed, nor have as many steps: its start is one of several states.
        let outcome = kill_at(command, input, points[place]);
        eprintln!(
            "killed at {point:?}, {label}; then at {:?}: {outcome:?}",
            points[place]
        );
        converge();
        matches!(outcome, Outcome::Killed(_))
    });
    let second = second.count();
    assert!(second > 0, "no second command was killed");
    second
}

fn kata_network(guest: &Guest, command: &str) -> Command {
    patchbay(guest.run_dir(), &["kata-network", command, guest.id(), "-"])
}
