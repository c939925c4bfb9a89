//! The `patchbay` command: arguments, JSON documents, commands and output on top of
//! `patchbay-host`. Under other names the same program is a CNI plugin, a wrapper of QEMU and a front of
//! `kata-runtime`.

mod args;
mod cni;
mod commands;
mod completion;
mod config;
mod durations;
mod events;
mod exporter;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod host_file;
mod input;
mod kata_link;
mod kata_messages;
mod name_service;
mod output;
mod qemu_wrapper;
mod signals;
mod systemd;
mod timings;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use config::Config;
use durations::Clock;
use kata_link::Words;

/// Runs the program that the file name of the command selects.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let name = line.first().and_then(|path| Path::new(path).file_name());
    completion::complete(name.and_then(OsStr::to_str));
    match (name.and_then(OsStr::to_str), &line[..]) {
        (Some(qemu_wrapper::NAME), [_, words @ ..]) => qemu_wrapper::run(words),
        (Some(cni::NAME), _) => cni::run(),
        (_, [_, word]) if word == "cni" => cni::run(),
        (Some(kata_link::NAME), _) => match kata_link::split(&line) {
            Words::Own(line) => command(&line),
            Words::Other(words) => kata_link::run(words),
        },
        _ => command(&line),
    }
}

/// Parses the command line, runs the command and prints its outcome.
fn command(line: &[OsString]) -> ExitCode {
    let clock = Clock::start();
    let (config, fault) = match Config::read() {
        Ok(config) => (config, None),
        Err(failure) => (Config::default(), Some(failure)),
    };
    let mut args = args::CommandLine::parse_with_trailing_options(line, &config.defaults);
    if let Some(failure) = fault {
        return commands::failed(&args, failure).print(None);
    }
    args.global.named = config.machines();
    let timings = args.timings.map(timings::Timings::start);
    events::collect(args.global.log.level(), timings.clone());
    let signals = &args.global.signals;
    if let Err(error) = signals.watch() {
        output::print_error(&format!("patchbay: could not receive signals: {error}\n"));
        return ExitCode::FAILURE;
    }
    let outcome = commands::run(&args);
    let result = outcome.result();
    let code = outcome.print(signals.received());
    clock.stop(args.global.run_dir(), &args.name, result);
    if let Some(timings) = timings {
        output::print_error(&timings.to_string());
    }
    code
}
