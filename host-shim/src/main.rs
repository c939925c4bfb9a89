//! `patchbay`: parse, run, print, exit.

use std::process::ExitCode;

use clap::Parser;
use patchbay::cli::Cli;
use patchbay::output;

fn main() -> ExitCode {
    output::finish(patchbay::run(&Cli::parse()))
}
