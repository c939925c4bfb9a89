//! `apply` that is interrupted or killed at random points.

use std::cell::Cell;

use nix::sys::signal::Signal;
use patchbay_tests::tracer::{HANDSHAKE, Outcome, Point, Stop, kill_at, signal_at, steps};
use patchbay_tests::{Cases, Guest, Machine, patchbay, rng};

use super::{WHOLE, apply, apply_command, diff, state};

/// Number of random points in a sample and in a full run.
const POINTS: Cases = Cases {
    sample: 5,
    full: 20,
};

/// Document with other cards, routes and rules.
const OTHER: &str = r#"
interfaces:
  - {device: tap1, name: eth1, hwAddr: "02:00:00:00:00:01", mtu: 1450, IPAddresses: [{address: 172.16.1.7, mask: 24}]}
  - {device: tap9, name: eth3, hwAddr: "02:00:00:00:00:03", mtu: 1500}
routes: [{dest: 10.7.0.0/16, device: eth3}]
neighbors: [{address: 172.16.1.9, device: eth1, lladdr: "02:00:00:00:01:0a"}]
ipvs: ["-A -t 10.0.0.7:80 -s rr"]
sysctls: {net.ipv4.ip_forward: 0}
"#;

/// Returns random steps, all of them after the command has begun.
fn random_points(guest: &Guest) -> Vec<Point> {
    apply(guest, WHOLE).ok();
    let (labels, done) = steps(&apply_command(guest, &[]), OTHER);
    done.ok();
    let mut rng = rng();
    let is_change =
        |step: &usize| !labels[*step].starts_with("qmp q") && labels[*step] != HANDSHAKE;
    let points = (0..labels.len()).filter(is_change);
    let mut chosen = rng.choose_multiple(points, POINTS.count());
    chosen.sort_unstable();
    let stop = |step| Point {
        step,
        stop: if rng.bool() {
            Stop::Before
        } else {
            Stop::After
        },
    };
    chosen.into_iter().map(stop).collect()
}

#[test]
fn apply_killed_between_steps_converges() {
    let guest = Guest::start(Machine::Q35);
    let points = random_points(&guest);
    let wanted = state(&guest);
    let killed = Cell::new(0);
    for point in points {
        apply(&guest, WHOLE).ok();
        match kill_at(&apply_command(&guest, &[]), OTHER, point) {
            Outcome::Killed(label) => {
                eprintln!("killed {:?} {label} ({})", point.stop, point.step);
                killed.set(killed.get() + 1);
            }
            Outcome::Exited(done) => drop(done.ok()),
        }
        apply(&guest, OTHER).ok();
        assert_eq!(state(&guest), wanted);
        assert_eq!(diff(&guest, OTHER).out, "");
    }
    assert!(killed.get() > POINTS.count() / 2, "{}", killed.get());
}

/// The card is in the journal as one that is being removed, and still in the machine.
#[test]
fn apply_after_a_killed_unplug_has_no_card_left() {
    let guest = Guest::start(Machine::Q35);
    for document in [WHOLE, OTHER] {
        apply(&guest, document).ok();
    }
    let wanted = state(&guest);
    apply(&guest, WHOLE).ok();
    let unplug = patchbay(
        guest.run_dir(),
        &["nic", "del", guest.id(), "--name", "eth2"],
    );
    let (labels, done) = steps(&unplug, "");
    done.ok();
    apply(&guest, WHOLE).ok();
    let step = labels.iter().position(|step| step == "qmp device_del");
    let point = Point {
        step: step.unwrap(),
        stop: Stop::Before,
    };
    let killed = kill_at(&unplug, "", point);
    assert!(matches!(killed, Outcome::Killed(_)), "{killed:?}");
    let done = apply(&guest, OTHER);
    assert!(
        done.err.contains("the card eth2, which is removed now"),
        "{done}"
    );
    done.ok();
    assert_eq!(state(&guest), wanted);
}

#[test]
fn apply_interrupted_is_undone_or_complete() {
    let guest = Guest::start(Machine::Q35);
    let points = random_points(&guest);
    let complete = state(&guest);
    apply(&guest, WHOLE).ok();
    let old = state(&guest);
    let mut undone = 0;
    for point in points {
        apply(&guest, WHOLE).ok();
        let (at, done) = signal_at(&apply_command(&guest, &[]), OTHER, point, Signal::SIGINT);
        eprintln!(
            "{at:?} {:?} ({}): {}",
            point.stop,
            point.step,
            done.err.trim_end()
        );
        let expected = if done.status == 0 { &complete } else { &old };
        assert!(!done.err.contains("could not be undone"), "{done}");
        assert_eq!(&state(&guest), expected, "{done}");
        undone += usize::from(done.status == 130);
    }
    assert!(undone > 0, "{undone}");
}

#[test]
fn apply_interrupted_after_mtu_change_is_undone() {
    let guest = Guest::start(Machine::Q35);
    apply(&guest, WHOLE).ok();
    let (labels, done) = steps(&apply_command(&guest, &[]), OTHER);
    done.ok();
    let changed = labels
        .iter()
        .position(|label| label == "rpc UpdateInterface");
    apply(&guest, WHOLE).ok();
    let old = state(&guest);
    // The next step is on the journal, which has the new MTU.
    let point = Point {
        step: changed.unwrap() + 1,
        stop: Stop::Before,
    };
    let (_, done) = signal_at(&apply_command(&guest, &[]), OTHER, point, Signal::SIGINT);
    assert_eq!(done.status, 130, "{done}");
    assert!(
        done.err.contains("the changes before it were undone"),
        "{done}"
    );
    assert_eq!(state(&guest), old);
}
