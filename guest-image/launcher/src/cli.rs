//! Command line of `patchbay-sandbox`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use patchbay_host::sandbox::DEFAULT_RUN_DIR;

use crate::image::BuildOptions;
use crate::image::overlay::OverlayOptions;
use crate::launch::options::StartOptions;
use crate::paths::absolute_path;

/// Build, start, stop and list sandboxes for development and tests of patchbay.
#[derive(Debug, Parser)]
#[command(name = "patchbay-sandbox", version)]
pub struct LauncherArgs {
    /// Run directory, with a folder for each sandbox
    #[arg(long, env = "PATCHBAY_RUN_DIR", default_value = DEFAULT_RUN_DIR, global = true,
          value_parser = absolute_path())]
    pub run_dir: PathBuf,
    /// Subcommand.
    #[command(subcommand)]
    pub command: LauncherCommand,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum LauncherCommand {
    /// Build the image that sandboxes boot
    Build(BuildOptions),
    /// Write the agent and its systemd unit for a Kata guest, as a tree and as an archive
    Overlay(OverlayOptions),
    /// Start a sandbox and wait until its agent answers
    Start(StartOptions),
    /// Stop a sandbox and remove its folder
    Stop(IdOrPrefix),
    /// List sandboxes
    List(ListFormat),
    /// Print the output of a sandbox's console
    Console(ConsoleArgs),
    /// Run a command in a sandbox started with --tools
    Exec(ExecArgs),
}

/// A sandbox.
#[derive(Debug, Args)]
pub struct IdOrPrefix {
    /// Sandbox ID, or a unique prefix
    pub id: String,
}

/// Output format of `list`.
#[derive(Debug, Args)]
pub struct ListFormat {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The sandbox.
    #[command(flatten)]
    pub sandbox: IdOrPrefix,
    /// Print new output until the sandbox ends
    #[arg(long, short)]
    pub follow: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The sandbox.
    #[command(flatten)]
    pub sandbox: IdOrPrefix,
    /// Command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
