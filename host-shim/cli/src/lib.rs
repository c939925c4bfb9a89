//! The `patchbay` command: arguments, JSON documents, commands and output on top of
//! `patchbay-host`.

mod args;
mod commands;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod input;
mod kata_messages;
mod name_service;
mod output;
mod timings;

use std::process::ExitCode;

/// Parses the command line, runs the command and prints its outcome.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let args = args::CommandLine::parse_with_trailing_options(&line);
    let timings = args.timings.then(timings::Timings::start);
    events::collect(timings.clone());
    let code = commands::run(&args).print();
    if let Some(timings) = timings {
        output::print_error(&timings.to_string());
    }
    code
}
