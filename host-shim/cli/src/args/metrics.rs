//! Arguments of `metrics` and `exporter`.

use std::net::SocketAddr;

use clap::Args;

use crate::output::metrics::MetricsFormat;

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Format of the metrics
    #[arg(long, value_enum, default_value_t = MetricsFormat::Openmetrics)]
    pub(crate) format: MetricsFormat,
}

/// Arguments of `exporter`.
#[derive(Debug, Args)]
pub(crate) struct ExporterArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Address and port to serve /metrics on; the metrics name sandboxes and addresses, without a password
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9961")]
    pub(crate) listen: SocketAddr,
    /// Allow an address that other machines reach
    #[arg(long)]
    pub(crate) public: bool,
}

/// Sandboxes and services of the metrics.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    /// Sandboxes whose ID begins so [default: all]
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Most virtual services, and most real servers, of a sandbox: those with the most connections
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) top: u32,
}
