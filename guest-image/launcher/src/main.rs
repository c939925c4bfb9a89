//! `patchbay-sandbox`: builds, starts, stops and lists sandboxes.

use std::io::{self, Write};
use std::process;

use clap::Parser;
use patchbay_sandbox::cli::{LauncherArgs, LauncherCommand};
use patchbay_sandbox::console::{self, Follow};
use patchbay_sandbox::error::Error;
use patchbay_sandbox::exec::exec;
use patchbay_sandbox::image::{self, overlay};
use patchbay_sandbox::launch;
use patchbay_sandbox::launch::registry::RunDir;
use patchbay_sandbox::list;

fn main() {
    let code = run(LauncherArgs::parse()).unwrap_or_else(|error| {
        error.lines().iter().for_each(|line| print_note(line));
        error.kind().exit_code().into()
    });
    process::exit(code)
}

fn run(LauncherArgs { run_dir, command }: LauncherArgs) -> Result<i32, Error> {
    let run_dir = RunDir::new(run_dir);
    let mut out = io::stdout();
    match command {
        LauncherCommand::Build(options) => image::build(&options)?,
        LauncherCommand::Overlay(options) => overlay::write(&options)?,
        LauncherCommand::Start(options) => launch::start(&run_dir, &options, &mut print_note)?,
        LauncherCommand::Stop(sandbox) => launch::stop(&run_dir, &sandbox.id)?,
        LauncherCommand::List(format) if format.json => {
            list::print_json(&run_dir.list()?, &mut out)?;
        }
        LauncherCommand::List(_) => list::print_table(&run_dir.list()?, &mut out)?,
        LauncherCommand::Console(args) => {
            let follow = if args.follow { Follow::Yes } else { Follow::No };
            console::show(&run_dir.find(&args.sandbox.id)?, follow, &mut out)?;
        }
        LauncherCommand::Exec(args) => {
            return Ok(exec(&run_dir.find(&args.sandbox.id)?, args.command)?);
        }
    }
    Ok(0)
}

fn print_note(line: &str) {
    // A failed standard error leaves nowhere to report it.
    let _ = writeln!(io::stderr(), "patchbay-sandbox: {line}");
}
