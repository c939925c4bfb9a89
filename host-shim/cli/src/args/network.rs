//! Arguments of `export`, `apply` and `diff`.

use std::path::PathBuf;

use clap::Args;

use super::SandboxArg;
use crate::output::DocumentFormat;
use crate::output::network::ChangesFormat;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    /// Format of the document
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "yaml")]
    pub(crate) format: DocumentFormat,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    /// Print the changes and make none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Documents, and the sandboxes that they are for.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct DocumentArgs {
    /// Sandbox or container ID, or a unique prefix [default: each document has one, as "sandbox"]
    pub(crate) id: Option<String>,
    /// File with YAML or JSON documents, or - for standard input
    pub(crate) file: PathBuf,
    /// Remove cards, routes, neighbors and rules that a section of the document does not have
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) prune: bool,
    /// Format of the changes
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ChangesFormat,
    /// Maximum number of IPVS services and servers
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) max_rules: u32,
}
