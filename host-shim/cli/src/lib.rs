//! The `patchbay` command: arguments, JSON documents, commands and output on top of
//! `patchbay-host`. Under other names the same program is a CNI plugin and a wrapper of QEMU.

mod args;
mod cni;
mod commands;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod host_file;
mod input;
mod kata_messages;
mod name_service;
mod output;
mod qemu_wrapper;
mod signals;
mod timings;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Runs the program that the file name of the command selects.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let name = line.first().and_then(|path| Path::new(path).file_name());
    match (name.and_then(OsStr::to_str), &line[..]) {
        (Some(qemu_wrapper::NAME), [_, words @ ..]) => qemu_wrapper::run(words),
        (Some(cni::NAME), _) => cni::run(),
        (_, [_, word]) if word == "cni" => cni::run(),
        _ => command(&line),
    }
}

/// Parses the command line, runs the command and prints its outcome.
fn command(line: &[OsString]) -> ExitCode {
    let args = args::CommandLine::parse_with_trailing_options(line);
    let timings = args.timings.map(timings::Timings::start);
    events::collect(timings.clone());
    let signals = &args.global.signals;
    if let Err(error) = signals.watch() {
        output::print_error(&format!("patchbay: could not receive signals: {error}\n"));
        return ExitCode::FAILURE;
    }
    let code = commands::run(&args).print(signals.received());
    if let Some(timings) = timings {
        output::print_error(&timings.to_string());
    }
    code
}
