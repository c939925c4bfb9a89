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

use clap::Parser;

/// Parses the command line, runs the command and prints its outcome.
#[must_use]
pub fn main() -> ExitCode {
    let args = args::CommandLine::parse();
    let timings = args.timings.then(timings::Timings::start);
    events::collect(timings.clone());
    let code = commands::run(&args).print();
    if let Some(timings) = timings {
        output::print_error(&timings.to_string());
    }
    code
}
