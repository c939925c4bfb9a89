//! Kubernetes: ADD of a network, many pods at once, and memory of the plugin.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Cni, Guest, Machine, Netns, Pod, peak_memory, temp_dir};
use serde_json::{Value, json};

use super::cards;
use crate::bed::Bed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row, Size};
use crate::stats::Samples;

/// Machine of a pod.
const POD: [&str; 4] = ["--memory", "128", "--cpus", "1"];

/// Measures the rows and the memory.
pub(crate) fn measure(plan: Plan, folder: &Path) -> (Vec<Row>, Size) {
    let (mut rows, size) = add(plan, folder);
    eprintln!("bench: ADD");
    rows.push(pods(plan));
    eprintln!("bench: pods");
    (rows, size)
}

pub(super) fn compared(with: &'static str, took: Samples, bound: Bound) -> Comparison {
    Comparison { with, took, bound }
}

pub(super) fn row(work: &'static str, ours: Vec<Duration>, peer: Comparison) -> Row {
    Row {
        work,
        ours: Samples::new(ours),
        peer: Some(peer),
        floor: None,
    }
}

pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

/// Times ADD of a list, and removes the network again.
fn timed_add(cni: &Cni, plugins: &Value, pod: &Pod) -> Duration {
    let (took, done) = timed(|| cni.run("add", plugins, pod));
    done.ok();
    cni.run("del", plugins, pod).ok();
    took
}

fn add(plan: Plan, folder: &Path) -> (Vec<Row>, Size) {
    let bed = Bed::start(Machine::Q35, &[]);
    let cni = Cni::new(bed.0.run_dir());
    let bridge = cni.bridge(&["10.88.0.0/24", "fd88::/64"]);
    let alone = json!([bridge]);
    let chain = json!([bridge, Cni::patchbay()]);
    let pod = Pod::of(&bed.0, "net1");
    let starting = Netns::new();
    let without_machine = Pod {
        container: "starting".to_owned(),
        netns: format!("/run/netns/{}", starting.name()),
        ..pod.clone()
    };
    let file = cards::document(folder, 1);
    let (mut whole, mut first, mut part) = (vec![], vec![], vec![]);
    let (mut passed, mut plug) = (vec![], vec![]);
    for _ in 0..plan.repeats {
        let (bridge, both) = (timed_add(&cni, &alone, &pod), timed_add(&cni, &chain, &pod));
        first.push(bridge);
        whole.push(both);
        part.push(both.saturating_sub(bridge));
        passed.push(timed_add(&cni, &chain, &without_machine));
        plug.push(cards::add(&bed, &file));
        bed.ours(&["kata-network", "del-iface", bed.0.id(), "-"], Some(&file));
    }
    let bridge = || compared("[bridge] alone", Samples::new(first.clone()), Bound::Open);
    let plug = compared("add-iface", Samples::new(plug), Bound::Within(1.5));
    let rows = vec![
        row("ADD of [bridge, patchbay-cni] by libcni", whole, bridge()),
        row("the same, patchbay-cni's part", part, plug),
        row("the same for a pod without a machine", passed, bridge()),
    ];
    (rows, memory(&bed, &cni, &alone, &pod))
}

fn memory(bed: &Bed, cni: &Cni, alone: &Value, pod: &Pod) -> Size {
    let mut config = Cni::patchbay();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("blue");
    config["prevResult"] = cni.run("add", alone, pod).json();
    let kib = peak_memory(&cni.plugin("ADD", pod), &config.to_string());
    bed.0.exec("ip link show net1").ok();
    Size {
        what: "patchbay-cni, peak of ADD with a machine".to_owned(),
        #[allow(clippy::cast_precision_loss)]
        value: kib as f64 / 1024.0,
        limit: 8.0,
        unit: "MiB",
    }
}

/// Each pod has a machine.
fn pods(plan: Plan) -> Row {
    let node = Arc::new(temp_dir());
    let guests: Vec<_> = (0..plan.pods)
        .map(|_| Guest::start_on(&node, Netns::new(), &POD))
        .collect();
    let cni = Cni::new(node.path());
    let bridge = cni.bridge(&["10.88.0.0/24"]);
    let (alone, chain) = (json!([bridge]), json!([bridge, Cni::patchbay()]));
    let pods: Vec<_> = guests.iter().map(|guest| Pod::of(guest, "net1")).collect();
    let run = |command: &str, plugins: &Value, pod: &Pod| drop(cni.run(command, plugins, pod).ok());
    let in_turn = |command: &str, plugins: &Value| {
        for pod in &pods {
            run(command, plugins, pod);
        }
    };
    let at_once = |plugins: &Value| {
        thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| run("add", plugins, pod));
            }
        });
    };
    // The first card of a guest takes longer: an emulator translates its driver.
    in_turn("add", &chain);
    in_turn("del", &chain);
    let (mut together, mut one_by_one, mut bridges) = (vec![], vec![], vec![]);
    for round in 0..2 * plan.card_rounds {
        if round.is_multiple_of(2) {
            together.push(timed(|| at_once(&chain)).0);
        } else {
            one_by_one.push(timed(|| in_turn("add", &chain)).0);
        }
        in_turn("del", &chain);
        bridges.push(timed(|| at_once(&alone)).0);
        in_turn("del", &alone);
    }
    let cores = thread::available_parallelism().unwrap().get();
    let cores = f64::from(u32::try_from(cores).unwrap());
    let one_by_one = Samples::new(one_by_one).times(1.0 / cores);
    let peer = compared("one after another / cores", one_by_one, Bound::Within(1.0));
    let floor = compared("[bridge] alone", Samples::new(bridges), Bound::Open);
    Row {
        floor: Some(floor),
        ..row(
            "ADD for many pods at once, each with a machine",
            together,
            peer,
        )
    }
}
