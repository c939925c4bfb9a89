//! Outcome of a command: standard output, failure and exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use patchbay_types::failure::{Failure, Kind};

use super::stderr::print_error;
use crate::durations::CommandResult;
use crate::signals::ReceivedSignal;

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

    /// Returns the result before anything is printed.
    pub(crate) fn result(&self) -> CommandResult {
        match self.failure {
            None => CommandResult::Success,
            Some(_) => CommandResult::Failure,
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
