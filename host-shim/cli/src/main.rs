//! `patchbay`: parse, run, print, exit.

use std::process::ExitCode;

use clap::Parser;
use patchbay::args::Cli;
use patchbay::output;
use patchbay::timings::Timings;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let timings = cli.timings.then(Timings::begin);
    let code = output::finish(patchbay::run(&cli));
    if let Some(timings) = timings {
        output::timings(&timings);
    }
    code
}
