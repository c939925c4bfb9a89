//! Choice between a table for people and data for programs.

use patchbay_types::failure::{Failure, Kind};
use serde::Serialize;
use serde_json::Value;

use super::data::DocumentFormat;
use super::table::{self, Column};

/// Format of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// One compact line of JSON.
    Json,
    /// Columns for people.
    Table,
    /// YAML.
    Yaml,
}

impl OutputFormat {
    /// Renders an object, or a list of objects, in this format.
    pub(crate) fn render(
        self,
        columns: &[Column],
        value: &impl Serialize,
    ) -> Result<String, Failure> {
        match self {
            Self::Json => DocumentFormat::Json.render(value),
            Self::Yaml => DocumentFormat::Yaml.render(value),
            Self::Table => serde_json::to_value(value)
                .map(|value| table::of_objects(columns, &value, table::terminal_width()))
                .map_err(|error| Failure::of(Kind::Other, &error)),
        }
    }

    /// Renders one object with many keys in this format.
    pub(crate) fn render_one(self, columns: &[Column], value: &Value) -> Result<String, Failure> {
        match self {
            Self::Json => DocumentFormat::Json.render(value),
            Self::Yaml => DocumentFormat::Yaml.render(value),
            Self::Table => Ok(table::of_members(columns, value)),
        }
    }
}
