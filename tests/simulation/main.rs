//! `make simulate`: deterministic simulation of the host library's commands. docs/testing.md describes it.

#![allow(clippy::unwrap_used)]

mod agent;
mod backend;
mod clock;
mod events;
mod faults;
mod guest;
mod judge;
mod memory;
mod monitor;
mod operation;
mod process;
mod qemu;
mod scenario;
mod wait;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use scenario::Scenario;

/// Environment variables with the first seed, and with the number of steps after which to end.
const SEED: &str = "SEED";
const STEPS: &str = "STEPS";

/// Environment variable that has the steps of each scenario printed.
const TRACE: &str = "TRACE";

fn main() -> ExitCode {
    let seed = number(SEED).unwrap_or_default();
    let wanted = number(STEPS).unwrap_or(1);
    let begun = Instant::now();
    match simulate(seed, wanted) {
        Ok(Simulated { steps, next }) => {
            let seconds = begun.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "shown")]
            let rate = steps as f64 / seconds * 3600.0;
            let last = next - 1;
            println!("SEED={seed} to {last}: {steps} steps in {seconds:.0} s, {rate:.0} an hour");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}

/// Scenarios that kept the invariants.
struct Simulated {
    steps: u64,
    /// Seed after the last one.
    next: u64,
}

/// Runs the scenarios of the seeds from `seed` on until this many steps are taken. A broken invariant is
/// returned with the steps of its scenario and its seed.
fn simulate(seed: u64, steps: u64) -> Result<Simulated, String> {
    let mut done = Simulated {
        steps: 0,
        next: seed,
    };
    while done.steps < steps {
        let outcome = Scenario::of(done.next).run();
        let trace = outcome.trace.join("\n");
        if let Err(broken) = outcome.judgement {
            return Err(format!("{trace}\nSEED={}: {broken}", done.next));
        }
        if number(TRACE).is_some() {
            println!("{trace}");
        }
        done.steps += outcome.steps;
        done.next += 1;
    }
    Ok(done)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok();
    let text = text.filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of the random seeds: some seconds.
    const SOME: u64 = 6_000;

    #[test]
    fn simulate_random_seeds_keeps_invariants() {
        let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..1 << 32));
        eprintln!("SEED={seed}");
        simulate(seed, SOME).unwrap_or_else(|broken| panic!("{broken}"));
    }

    /// Each seed broke an invariant before the cause was mended.
    #[test]
    fn simulate_seeds_of_findings_keeps_invariants() {
        for seed in [57, 136, 317] {
            simulate(seed, 1).unwrap_or_else(|broken| panic!("{broken}"));
        }
    }

    #[test]
    fn simulate_seed_again_takes_the_same_steps() {
        for seed in [2, 3] {
            let traces = [(); 2].map(|()| Scenario::of(seed).run().trace);
            assert!(!traces[0].is_empty());
            assert_eq!(traces[0], traces[1], "SEED={seed}");
        }
    }
}
