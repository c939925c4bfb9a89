//! `patchbay-sandbox`: builds, starts, stops and lists sandboxes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process;

use clap::Parser;
use patchbay_sandbox::cli::{BuildArgs, Cli, Command, StartArgs};
use patchbay_sandbox::console::{self, Follow};
use patchbay_sandbox::error::Error;
use patchbay_sandbox::exec::exec;
use patchbay_sandbox::image::{self, BuildOptions, Image, overlay};
use patchbay_sandbox::launch::registry::RunDir;
use patchbay_sandbox::launch::{self, StartOptions};
use patchbay_sandbox::list::{self, Form};

fn main() {
    let Cli { run_dir, command } = Cli::parse();
    let code = match run(run_dir, command) {
        Ok(code) => code,
        Err(error) => report(&error),
    };
    process::exit(code)
}

fn run(run_dir: PathBuf, command: Command) -> Result<i32, Error> {
    let run_dir = RunDir::new(std::path::absolute(run_dir)?);
    match command {
        Command::Build(args) => build(args)?,
        Command::Overlay(args) => overlay::write(&args.folder, &programs(args.bin_dir)?)?,
        Command::Start(args) => start(&run_dir, args)?,
        Command::Stop(args) => drop(launch::stop(&run_dir, &args.id)?),
        Command::List(args) => {
            let form = if args.json { Form::Json } else { Form::Table };
            list::print(&run_dir.list()?, form, &mut io::stdout())?;
        }
        Command::Console(args) => {
            let follow = if args.follow { Follow::Yes } else { Follow::No };
            let sandbox = run_dir.find(&args.sandbox.id)?;
            console::show(&sandbox, follow, &mut io::stdout())?;
        }
        Command::Exec(args) => return Ok(exec(&run_dir.find(&args.sandbox.id)?, args.words)?),
    }
    Ok(0)
}

/// Where the programs of the guest are.
fn programs(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    let beside_us = || {
        let program = std::env::current_exe()?;
        Ok(program.parent().map(PathBuf::from).unwrap_or_default())
    };
    given.map_or_else(beside_us, Ok)
}

fn build(args: BuildArgs) -> Result<(), Error> {
    let tools = args.tools();
    let programs = programs(args.bin_dir)?;
    let folder = std::path::absolute(args.image.image)?;
    Ok(image::build(&BuildOptions {
        folder,
        programs,
        kernel: args.kernel,
        tools,
    })?)
}

fn start(run_dir: &RunDir, args: StartArgs) -> Result<(), Error> {
    let options = StartOptions {
        netns: args.netns().map(std::path::absolute).transpose()?,
        tools: args.image.tools(),
        timeout: args.timeout(),
        id: args.id,
        machine: args.machine,
        accel: args.accel,
        cpus: args.cpus,
        memory_mib: args.memory,
        ports: args.ports,
        image: Image::new(std::path::absolute(args.image.image)?),
        extra: args.extra,
    };
    let mut note = |line: &str| say(line);
    launch::start(run_dir, &options, &mut note)?;
    Ok(())
}

fn report(error: &Error) -> i32 {
    say(&error.sentence());
    for line in error.evidence() {
        say(&line);
    }
    error.kind().exit_code().into()
}

fn say(line: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(io::stderr(), "patchbay-sandbox: {line}");
}
