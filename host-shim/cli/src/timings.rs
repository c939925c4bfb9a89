//! `--timings`: time spent in each phase of a command.
//!
//! Phases are `tracing` spans, so that no function has to pass a clock on. The time of a nested phase
//! is not counted for the outer one. Phases on two threads overlap, so that the sum can exceed the
//! total. Without `--timings` no layer is interested in spans, and each costs one comparison.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::Id;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

/// Format of the durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TimingsFormat {
    /// A line for each phase.
    Text,
    /// An array with an object for each phase.
    Json,
}

/// Collector of the phases since its creation.
#[derive(Debug, Clone)]
pub(crate) struct Timings {
    format: TimingsFormat,
    started: Instant,
    phases: Arc<Mutex<Vec<PhaseTime>>>,
}

/// Time that a phase took in total, without nested phases, and how often it occurred.
#[derive(Debug, Clone)]
struct PhaseTime {
    name: String,
    time: Duration,
    parts: u32,
}

impl PhaseTime {
    fn once(name: &str, time: Duration) -> Self {
        Self {
            name: name.to_owned(),
            time,
            parts: 1,
        }
    }

    fn object(&self) -> serde_json::Value {
        serde_json::json!({"phase": self.name, "ms": millis(self.time), "parts": self.parts})
    }
}

/// State of an entered span.
struct Entered {
    at: Instant,
    nested: Duration,
}

impl Timings {
    /// Starts the clock of this process.
    pub(crate) fn start(format: TimingsFormat) -> Self {
        Self {
            format,
            started: Instant::now(),
            phases: Arc::default(),
        }
    }

    fn add(&self, name: &str, time: Duration) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        match phases.iter_mut().find(|phase| phase.name == name) {
            Some(phase) => {
                phase.time += time;
                phase.parts += 1;
            }
            None => phases.push(PhaseTime::once(name, time)),
        }
    }

    /// Returns the phases, the time that belongs to none, and the total.
    fn rows(&self) -> Vec<PhaseTime> {
        let total = self.started.elapsed();
        let phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = phases.clone();
        let known = phases.iter().map(|phase| phase.time).sum();
        rows.push(PhaseTime::once("other", total.saturating_sub(known)));
        rows.push(PhaseTime::once("total", total));
        rows
    }
}

/// Adds the time of a phase to the nested time of the span around it.
fn add_nested<'a, S: LookupSpan<'a>>(outer: Option<SpanRef<'a, S>>, time: Duration) {
    if let Some(outer) = outer
        && let Some(entered) = outer.extensions_mut().get_mut::<Entered>()
    {
        entered.nested += time;
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Timings {
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Entered {
                at: Instant::now(),
                nested: Duration::ZERO,
            });
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(entered) = span.extensions_mut().remove::<Entered>()
        {
            let elapsed = entered.at.elapsed();
            self.add(span.name(), elapsed.saturating_sub(entered.nested));
            add_nested(span.parent(), elapsed);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut measured = Measured::default();
        event.record(&mut measured);
        self.add(&measured.phase, measured.time);
        add_nested(context.event_span(event), measured.time);
    }
}

/// Phase that the clock of the guest measured; the fields of an event.
#[derive(Default)]
struct Measured {
    phase: String,
    time: Duration,
}

impl Visit for Measured {
    fn record_u64(&mut self, _: &Field, micros: u64) {
        self.time = Duration::from_micros(micros);
    }

    fn record_str(&mut self, _: &Field, phase: &str) {
        phase.clone_into(&mut self.phase);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        if self.format == TimingsFormat::Json {
            let objects: Vec<_> = rows.iter().map(PhaseTime::object).collect();
            return writeln!(f, "{}", serde_json::Value::from(objects));
        }
        for PhaseTime { name, time, parts } in rows {
            let note = match parts {
                1 => String::new(),
                parts => format!("  in {parts} parts"),
            };
            writeln!(f, "{name:<10} {:>9.2} ms{note}", millis(time))?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_phase_is_counted_once() {
        let timings = Timings::start(TimingsFormat::Text);
        let level = crate::events::LogLevel::Warn;
        crate::events::collect(level, Some(timings.clone()));
        {
            let _outer = tracing::info_span!("plug").entered();
            for _ in 0..2 {
                let _inner = tracing::info_span!("qmp").entered();
                std::thread::sleep(Duration::from_millis(5));
            }
            tracing::info!(phase = "netlink", micros = 1_000_000_u64);
            tracing::warn!("not a phase");
        }
        let text = timings.to_string();
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[0].starts_with("qmp ") && rows[0].ends_with("in 2 parts"),
            "{text}"
        );
        assert!(rows[1].starts_with("netlink      1000.00 ms"), "{text}");
        // The nested second exceeds the time of the span, which is clamped at 0.
        assert_eq!(rows[2], "plug            0.00 ms");
        assert!(
            rows[3].starts_with("other") && rows[4].starts_with("total"),
            "{text}"
        );
        let json = Timings {
            format: TimingsFormat::Json,
            ..timings
        };
        let rows: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(
            rows[1],
            serde_json::json!({"phase": "netlink", "ms": 1000.0, "parts": 1})
        );
        assert_eq!(rows[4]["phase"], "total");
    }
}
