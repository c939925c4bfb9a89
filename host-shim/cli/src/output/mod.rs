//! Everything that is printed: JSON, tables, progress, timings and errors.

pub(crate) mod cards;
mod data;
pub(crate) mod events;
pub(crate) mod flows;
pub(crate) mod ipvs;
pub(crate) mod ipvs_json;
pub(crate) mod ipvs_table;
pub(crate) mod metrics;
pub(crate) mod neighbors;
pub(crate) mod network;
mod progress;
pub(crate) mod report;
pub(crate) mod routes;
pub(crate) mod sandboxes;
pub(crate) mod sysctls;
pub(crate) mod table;
pub(crate) mod traffic;
pub(crate) mod watch;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::text::is_terminal_control;
use serde::Serialize;
use serde_json::Value;

use crate::args::DocumentFormat;
use crate::signals::ReceivedSignal;
use table::Column;

pub(crate) use progress::{DrainProgressBar, RestoreProgress};

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

/// Renders `value` as a line of JSON. Terminal controls above U+001F, which JSON allows in strings
/// and names of interfaces can contain, are escaped too.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(value).map_err(|error| Failure::of(Kind::Other, &error))?;
    if !line.contains(is_terminal_control) {
        return Ok(line + "\n");
    }
    let mut escaped = String::with_capacity(line.len() + 1);
    for c in line.chars() {
        if is_terminal_control(c) {
            // Writing to a String can't fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped.push('\n');
    Ok(escaped)
}

/// Drops the members of an object that are `null`.
fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Renders `values` as a line of JSON; `null` if there are none, as Go prints a nil slice.
pub(crate) fn json_line_or_null<T: Serialize>(values: &[T]) -> Result<String, Failure> {
    json_line(&(!values.is_empty()).then_some(values))
}

/// Outcome of a command: the text for standard output, and the failure if it failed.
#[derive(Debug)]
pub(crate) struct Outcome {
    stdout: String,
    failure: Option<Failure>,
    /// Exit code without a failure.
    success: ExitCode,
}

impl Outcome {
    /// Succeeds with this text, or fails and prints `null`, as the user guide of `kata-network`
    /// promises.
    pub(crate) fn json_null_or(result: Result<String, Failure>) -> Self {
        result.map_or_else(|failure| Self::failed("null\n", failure), Self::succeeded)
    }

    /// Succeeds with this text, or fails and prints nothing on standard output.
    pub(crate) fn silent_or(result: Result<String, Failure>) -> Self {
        result.map_or_else(|failure| Self::failed("", failure), Self::succeeded)
    }

    /// Fails, with something on standard output nevertheless.
    pub(crate) fn failed(stdout: impl Into<String>, failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::succeeded(stdout)
        }
    }

    /// Succeeds with this text.
    pub(crate) fn succeeded(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            failure: None,
            success: ExitCode::SUCCESS,
        }
    }

    /// Succeeds with this text, which lists differences: as of diff(1), the exit code is 1.
    pub(crate) fn differing(stdout: impl Into<String>) -> Self {
        Self {
            success: ExitCode::FAILURE,
            ..Self::succeeded(stdout)
        }
    }

    /// Prints the text on standard output and the failure as one line on standard error; returns
    /// the exit code. A command that completes in spite of a signal succeeds.
    pub(crate) fn print(self, signal: Option<ReceivedSignal>) -> ExitCode {
        let mut out = io::stdout();
        let printed = out
            .write_all(self.stdout.as_bytes())
            .and_then(|()| out.flush());
        let failures = [
            self.failure,
            printed.map_err(|error| unprinted(&error)).err(),
        ];
        let cause = signal.map(|signal| format!("interrupted by {signal}: "));
        for failure in failures.iter().flatten() {
            let cause = cause.as_deref().unwrap_or_default();
            print_error(&format!("patchbay: {cause}{}\n", failure.line()));
        }
        match (failures.into_iter().flatten().next(), signal) {
            (None, None) => self.success,
            (None, Some(signal)) => {
                print_error(&format!(
                    "patchbay: {signal} came too late: the command is complete\n"
                ));
                ExitCode::SUCCESS
            }
            (Some(failure), None) => ExitCode::from(failure.kind().exit_code()),
            (Some(_), Some(signal)) => ExitCode::from(signal.exit_code()),
        }
    }
}

/// Returns the failure of a command whose output is lost.
pub(crate) fn unprinted(error: &io::Error) -> Failure {
    let message = "the result could not be written to standard output";
    Failure::of_io(message, error).with_kind(Kind::Other)
}

/// Prints a text on standard error.
pub(crate) fn print_error(text: &str) {
    // Nothing can be reported if standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}
