//! `tracing` events and spans of this process: lines on standard error, phases for `--timings`.
//!
//! A warning doesn't change the outcome of a command. The library emits it with `tracing::warn!`, so
//! that no result has to carry it.

use std::fmt;

use patchbay_types::text::escape_controls;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::output::print_error;
use crate::timings::Timings;

/// Prefix of the crates whose events and spans are collected.
const TARGET_PREFIX: &str = "patchbay";

/// Lines on standard error besides that of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogLevel {
    /// None
    Error,
    /// Warnings
    Warn,
    /// Phases when they begin, too
    Info,
    /// Details, too
    Debug,
}

impl LogLevel {
    fn most_verbose(self) -> Level {
        match self {
            Self::Error => Level::ERROR,
            Self::Warn => Level::WARN,
            Self::Info => Level::INFO,
            Self::Debug => Level::DEBUG,
        }
    }
}

/// Sends the events of this process to standard error, and its phases to `timings`.
pub(crate) fn collect(level: LogLevel, timings: Option<Timings>) {
    let is_own = |metadata: &Metadata<'_>| metadata.target().starts_with(TARGET_PREFIX);
    let is_warning = |metadata: &Metadata<'_>| *metadata.level() == Level::WARN;
    let most = level.most_verbose();
    let lines = Lines.with_filter(filter_fn(move |m| is_own(m) && *m.level() <= most));
    let is_phase = move |metadata: &Metadata<'_>| is_own(metadata) && !is_warning(metadata);
    let phases = timings.map(|timings| timings.with_filter(filter_fn(is_phase)));
    let subscriber = tracing_subscriber::registry().with(lines).with(phases);
    // Can't fail: the process sets no other subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Prints the messages of events, and the names of spans that begin.
struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        print_error(&format!("patchbay: info: {}\n", span.metadata().name()));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let level = match *event.metadata().level() {
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        // An event without a message is the duration of a phase in the guest.
        if !message.0.is_empty() {
            let text = escape_controls(&message.0);
            print_error(&format!("patchbay: {level}: {text}\n"));
        }
    }
}

/// Message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
