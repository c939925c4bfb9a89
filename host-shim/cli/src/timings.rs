//! Where the time of a command goes: `--timings`.
//!
//! The phases are `tracing` spans, so that no function hands a clock on; a phase inside another is
//! not counted twice, and phases on two threads run beside each other: then the sum is more than the
//! total. Without `--timings` nobody listens and a span costs one comparison.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Spans of other crates are none of our phases.
const OWN: &str = "patchbay";

#[derive(Debug, Default)]
struct Phases {
    /// Names of the spans by their number, from 1.
    names: Vec<&'static str>,
    /// What runs on each thread: since when, and how much of that was other phases.
    running: HashMap<ThreadId, Vec<RunningPhase>>,
    /// In the order in which they ended first.
    done: Vec<(String, Duration, u32)>,
}

type RunningPhase = (&'static str, Instant, Duration);

impl Phases {
    fn running(&mut self) -> &mut Vec<RunningPhase> {
        self.running.entry(thread::current().id()).or_default()
    }

    fn add(&mut self, name: &str, own: Duration) {
        match self.done.iter_mut().find(|(known, ..)| known == name) {
            Some((_, sum, times)) => {
                *sum += own;
                *times += 1;
            }
            None => self.done.push((name.to_owned(), own, 1)),
        }
    }

    fn inside(&mut self, elapsed: Duration) {
        if let Some((.., inner)) = self.running().last_mut() {
            *inner += elapsed;
        }
    }

    fn exit(&mut self) {
        if let Some((name, since, inner)) = self.running().pop() {
            let elapsed = since.elapsed();
            self.add(name, elapsed.saturating_sub(inner));
            self.inside(elapsed);
        }
    }
}

/// Listens from when it is made.
#[derive(Debug, Clone)]
pub(crate) struct Timings {
    begun: Instant,
    phases: Arc<Mutex<Phases>>,
}

impl Timings {
    /// Begins to listen to the phases of this process.
    pub(crate) fn begin() -> Self {
        let timings = Self {
            begun: Instant::now(),
            phases: Arc::default(),
        };
        let listener = PhaseSubscriber {
            phases: Arc::clone(&timings.phases),
            last: AtomicU64::new(0),
        };
        // A second listener of one process hears nothing.
        let _ = tracing::subscriber::set_global_default(listener);
        timings
    }
}

fn lock(phases: &Mutex<Phases>) -> MutexGuard<'_, Phases> {
    phases.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.begun.elapsed();
        let phases = lock(&self.phases);
        let mut known = Duration::ZERO;
        let mut row = |name: &str, time: Duration, times: &str| {
            let millis = time.as_secs_f64() * 1000.0;
            writeln!(f, "{name:<10} {millis:>9.2} ms{times}")
        };
        for (name, time, times) in &phases.done {
            known += *time;
            let times = match times {
                1 => String::new(),
                times => format!("  in {times} parts"),
            };
            row(name, *time, &times)?;
        }
        row("other", total.saturating_sub(known), "")?;
        row("total", total, "")
    }
}

/// Takes what spans and events tell.
struct PhaseSubscriber {
    phases: Arc<Mutex<Phases>>,
    last: AtomicU64,
}

impl Subscriber for PhaseSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some(OWN)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        lock(&self.phases).names.push(span.metadata().name());
        Id::from_u64(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut measured = Measured::default();
        event.record(&mut measured);
        let mut phases = lock(&self.phases);
        phases.add(&measured.phase, measured.length);
        phases.inside(measured.length);
    }

    fn enter(&self, id: &Id) {
        let mut phases = lock(&self.phases);
        let index = usize::try_from(id.into_u64() - 1).unwrap_or(usize::MAX);
        if let Some(name) = phases.names.get(index).copied() {
            phases
                .running()
                .push((name, Instant::now(), Duration::ZERO));
        }
    }

    fn exit(&self, _: &Id) {
        lock(&self.phases).exit();
    }
}

#[derive(Default)]
struct Measured {
    phase: String,
    length: Duration,
}

impl Visit for Measured {
    fn record_u64(&mut self, _: &Field, micros: u64) {
        self.length = Duration::from_micros(micros);
    }

    fn record_str(&mut self, _: &Field, phase: &str) {
        phase.clone_into(&mut self.phase);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_inside_another_is_counted_once() {
        let timings = Timings::begin();
        {
            let _outer = tracing::info_span!("plug").entered();
            for _ in 0..2 {
                let _inner = tracing::info_span!("qmp").entered();
                std::thread::sleep(Duration::from_millis(5));
            }
            tracing::info!(phase = "netlink", micros = 1_000_000_u64);
        }
        let text = timings.to_string();
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[0].starts_with("qmp ") && rows[0].ends_with("in 2 parts"),
            "{text}"
        );
        assert!(rows[1].starts_with("netlink      1000.00 ms"), "{text}");
        // A second is more than the span took: nothing is left of it.
        assert_eq!(rows[2], "plug            0.00 ms");
        assert!(
            rows[3].starts_with("other") && rows[4].starts_with("total"),
            "{text}"
        );
    }
}
