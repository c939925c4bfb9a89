//! Command line of `patchbay-sandbox`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use patchbay_host::sandbox::DEFAULT_RUN_DIR;

use crate::error::Error;
use crate::exec::exec;
use crate::image::{self, BuildOptions, overlay};
use crate::launch::options::StartOptions;
use crate::launch::registry::RunDir;
use crate::paths::absolute_path;
use crate::{completion, console, launch, list};

/// Build, start, stop and list sandboxes for development and tests of patchbay.
#[derive(Parser)]
#[command(name = "patchbay-sandbox", version)]
struct LauncherArgs {
    /// Run directory, with a folder for each sandbox
    #[arg(long, env = "PATCHBAY_RUN_DIR", default_value = DEFAULT_RUN_DIR, global = true,
          value_parser = absolute_path())]
    run_dir: PathBuf,
    #[command(subcommand)]
    command: LauncherCommand,
}

#[derive(Subcommand)]
enum LauncherCommand {
    /// Build the image that sandboxes boot
    Build(BuildOptions),
    /// Write the agent and its systemd units for a Kata guest, as a tree and as an archive
    Overlay(overlay::OverlayOptions),
    /// Start a sandbox and wait until its agent answers
    Start(StartOptions),
    /// Stop a sandbox and remove its folder
    Stop {
        /// Sandbox ID, or a unique prefix
        id: String,
    },
    /// List sandboxes
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print the output of a sandbox's console
    Console {
        /// Sandbox ID, or a unique prefix
        id: String,
        /// Print new output until the sandbox ends
        #[arg(long, short)]
        follow: bool,
    },
    /// Run a command in a sandbox started with --tools
    Exec {
        /// Sandbox ID, or a unique prefix
        id: String,
        /// Command and its arguments
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Print a shell completion script
    Completions {
        /// Shell to complete for
        #[arg(value_parser = completion::shells())]
        shell: String,
    },
}

/// Parses the command line, runs the command and returns the exit code.
#[must_use]
pub fn main() -> i32 {
    completion::complete(LauncherArgs::command);
    run(LauncherArgs::parse()).unwrap_or_else(|error| {
        error.lines().iter().for_each(|line| print_note(line));
        error.kind().exit_code().into()
    })
}

fn run(LauncherArgs { run_dir, command }: LauncherArgs) -> Result<i32, Error> {
    let run_dir = RunDir::new(run_dir);
    let mut out = io::stdout();
    match command {
        LauncherCommand::Build(options) => image::build(&options)?,
        LauncherCommand::Overlay(options) => overlay::write(&options)?,
        LauncherCommand::Start(options) => launch::start(&run_dir, &options, &mut print_note)?,
        LauncherCommand::Stop { id: prefix } => {
            let id = launch::stop(&run_dir, &prefix)?;
            if id.as_str() != prefix {
                print_note(&format!("stopped sandbox {id}"));
            }
        }
        LauncherCommand::List { json } => {
            let sandboxes = run_dir.list()?;
            let printed = if json {
                list::print_json(&sandboxes, &mut out)
            } else {
                list::print_table(&sandboxes, &mut out)
            };
            printed.map_err(Error::Output)?;
            list::note_broken(&sandboxes, &mut print_note);
        }
        LauncherCommand::Console { id, follow: true } => {
            console::follow(&run_dir.find(&id)?, &mut out).map_err(Error::Output)?;
        }
        LauncherCommand::Console { id, follow: false } => {
            console::show(&run_dir.find(&id)?, &mut out).map_err(Error::Output)?;
        }
        LauncherCommand::Completions { shell } => {
            completion::print_script(&shell, &mut out).map_err(Error::Output)?;
        }
        LauncherCommand::Exec { id, command } => return exec(&run_dir.find(&id)?, command),
    }
    Ok(0)
}

fn print_note(line: &str) {
    // A failed standard error leaves nowhere to report it.
    let _ = writeln!(io::stderr(), "patchbay-sandbox: {line}");
}
