//! `tracing` events and spans of this process: warnings for standard error, phases for `--timings`.
//!
//! A warning doesn't change the outcome of a command. The library emits it with `tracing::warn!`, so
//! that no result has to carry it.

use std::fmt;

use patchbay_types::text::escape_controls;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::output::print_error;
use crate::timings::Timings;

/// Prefix of the crates whose events and spans are collected.
const TARGET_PREFIX: &str = "patchbay";

/// Sends the warnings of this process to standard error, and its phases to `timings`.
pub(crate) fn collect(timings: Option<Timings>) {
    let is_own = |metadata: &Metadata<'_>| metadata.target().starts_with(TARGET_PREFIX);
    let is_warning = |metadata: &Metadata<'_>| *metadata.level() == Level::WARN;
    let warnings = Warnings.with_filter(filter_fn(move |m| is_own(m) && is_warning(m)));
    let is_phase = move |metadata: &Metadata<'_>| is_own(metadata) && !is_warning(metadata);
    let phases = timings.map(|timings| timings.with_filter(filter_fn(is_phase)));
    let subscriber = tracing_subscriber::registry().with(warnings).with(phases);
    // Can't fail: the process sets no other subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Prints the messages of events.
struct Warnings;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        print_error(&format!(
            "patchbay: warning: {}\n",
            escape_controls(&message.0)
        ));
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
