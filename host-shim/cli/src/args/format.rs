//! Choice of the output format.

use std::io::{self, IsTerminal};

use clap::Args;

use crate::output::{DocumentFormat, OutputFormat};

/// Choice of the output format.
#[derive(Debug, Args)]
pub(crate) struct FormatArg {
    /// Print JSON even on a terminal, the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Format of the output [default: table on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    format: Option<OutputFormat>,
}

impl FormatArg {
    /// Returns the format that was asked for.
    fn requested(&self) -> Option<OutputFormat> {
        self.json.then_some(OutputFormat::Json).or(self.format)
    }

    /// Returns the format of data that was asked for.
    pub(crate) fn data(&self) -> Option<DocumentFormat> {
        match self.requested()? {
            OutputFormat::Json => Some(DocumentFormat::Json),
            OutputFormat::Yaml => Some(DocumentFormat::Yaml),
            OutputFormat::Table => None,
        }
    }

    /// Returns the format: by default a table on a terminal and JSON elsewhere.
    pub(crate) fn format(&self) -> OutputFormat {
        let by_default = || {
            if io::stdout().is_terminal() {
                OutputFormat::Table
            } else {
                OutputFormat::Json
            }
        };
        self.requested().unwrap_or_else(by_default)
    }
}
