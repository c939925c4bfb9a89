//! Metrics of sandboxes, cards and IPVS in the formats of Prometheus (docs/metrics.md).

mod cards;
mod commands;
mod conntrack;
mod ipvs;

use std::time::Duration;
use std::{fmt, iter};

use patchbay_host::ops::{RunState, Scrape};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::durations::{BOUNDS, Durations};

/// Maximum length of a version that a guest names.
const MAX_VERSION: usize = 64;

/// Format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MetricsFormat {
    /// `OpenMetrics` 1.0
    Openmetrics,
    /// Text format 0.0.4 of Prometheus
    Prometheus,
}

impl MetricsFormat {
    /// Returns the type of a reply over HTTP.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Openmetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// Samples of one metric.
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

enum Samples {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
    /// Durations in seconds.
    Histogram(Vec<(Labels, Durations)>),
}

impl Samples {
    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Counter(samples) => samples.is_empty(),
            Self::Gauge(samples) => samples.is_empty(),
            Self::Histogram(samples) => samples.is_empty(),
        }
    }
}

impl Family {
    fn gauge(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        let samples = Samples::Gauge(samples.into_iter().collect());
        Self {
            name,
            help,
            samples,
        }
    }

    /// `name` is without the suffix `_total`.
    fn counter(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Self {
        let samples = Samples::Counter(samples.into_iter().collect());
        Self {
            name,
            help,
            samples,
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.samples.is_empty() {
            return Ok(());
        }
        let kind = self.samples.kind();
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        match &self.samples {
            Samples::Counter(samples) => samples.iter().try_for_each(|(labels, value)| {
                sample(&mut metric, labels, &ConstCounter::new(*value))
            }),
            Samples::Gauge(samples) => samples.iter().try_for_each(|(labels, value)| {
                sample(&mut metric, labels, &ConstGauge::new(*value))
            }),
            Samples::Histogram(samples) => samples
                .iter()
                .try_for_each(|(labels, durations)| histogram(&mut metric, labels, durations)),
        }
    }
}

fn sample(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels,
    value: &impl EncodeMetric,
) -> fmt::Result {
    value.encode(metric.encode_family(labels)?)
}

fn histogram(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels,
    durations: &Durations,
) -> fmt::Result {
    let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(durations.counts).collect();
    let count = durations.counts.iter().sum();
    let seconds = Duration::from_micros(durations.micros).as_secs_f64();
    let mut encoder = metric.encode_family(labels)?;
    encoder.encode_histogram::<Labels>(seconds, count, &buckets, None)
}

/// Values of a scrape.
pub(crate) struct Scraped {
    pub(crate) scrapes: Vec<Scrape>,
    /// Durations of the host's commands.
    pub(crate) durations: Vec<Durations>,
    /// Maximum number of services and servers of each sandbox, those with the most connections.
    pub(crate) top: usize,
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraped").finish_non_exhaustive()
    }
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = sandboxes(&self.scrapes)
            .into_iter()
            .chain(cards::families(&self.scrapes))
            .chain(conntrack::families(&self.scrapes))
            .chain(ipvs::families(&self.scrapes, self.top))
            .chain(iter::once(commands::family(&self.durations)));
        for family in families {
            family.encode(&mut encoder)?;
        }
        Ok(())
    }
}

/// Formats a scrape.
pub(crate) fn metrics(scraped: Scraped, format: MetricsFormat) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("patchbay");
    registry.register_collector(Box::new(scraped));
    let mut out = String::new();
    match format {
        MetricsFormat::Openmetrics => text::encode(&mut out, &registry)?,
        MetricsFormat::Prometheus => prometheus_text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

fn of_sandbox(scrape: &Scrape) -> Labels {
    vec![("sandbox", scrape.overview.id.clone())]
}

fn sandboxes(scrapes: &[Scrape]) -> [Family; 6] {
    let of_each = |value: fn(&Scrape) -> f64| {
        scrapes
            .iter()
            .map(move |scrape| (of_sandbox(scrape), value(scrape)))
    };
    let info = |label: &'static str, value: fn(&Scrape) -> Option<String>| {
        scrapes.iter().filter_map(move |scrape| {
            let labels = [of_sandbox(scrape), vec![(label, value(scrape)?)]].concat();
            Some((labels, 1.0))
        })
    };
    [
        Family::gauge(
            "machine_running",
            "Whether the machine runs, 0 or 1.",
            of_each(|scrape| {
                let running = RunState::Qemu("running".to_owned());
                f64::from(u8::from(scrape.overview.state == running))
            }),
        ),
        Family::gauge(
            "machine_state_info",
            "State of the machine, as patchbay list shows it.",
            info("state", |scrape| {
                Some(scrape.overview.state.name().to_owned())
            }),
        ),
        Family::gauge(
            "agent_up",
            "Whether the agent replies, 0 or 1.",
            of_each(|scrape| f64::from(u8::from(scrape.overview.agent.is_some()))),
        ),
        Family::gauge(
            "agent_version_info",
            "Version of the agent.",
            info("version", |scrape| {
                let version = scrape.overview.agent.as_ref()?.chars();
                let shown = version.filter(char::is_ascii_graphic);
                Some(shown.take(MAX_VERSION).collect())
            }),
        ),
        Family::gauge(
            "cards",
            "Number of cards that are plugged.",
            of_each(|scrape| count(scrape.overview.cards.unwrap_or_default())),
        ),
        Family::gauge(
            "scrape_duration_seconds",
            "Time that it took to read the sandbox.",
            of_each(|scrape| scrape.duration.as_secs_f64()),
        ),
    ]
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
