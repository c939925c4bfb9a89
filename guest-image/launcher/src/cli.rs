//! The words of `patchbay-sandbox`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::image::packages::PackageName;
use crate::image::{DEFAULT_FOLDER, KERNEL_PACKAGE, Tools, ToolsFrom};
use crate::launch::accel::AccelChoice;
use crate::launch::qemu::Machine;
use crate::launch::registry::{DEFAULT_RUN_DIR, SandboxId};

/// Builds, starts, stops and lists sandboxes for trying and testing patchbay.
#[derive(Debug, Parser)]
#[command(name = "patchbay-sandbox", version)]
pub struct Cli {
    /// Where running sandboxes have their folders.
    #[arg(long, env = "PATCHBAY_RUN_DIR", default_value = DEFAULT_RUN_DIR, global = true)]
    pub run_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the image that sandboxes boot.
    Build(BuildArgs),
    /// Writes what a guest of Kata needs: the agent and its unit, as a tree and as an archive.
    Overlay(OverlayArgs),
    /// Starts a sandbox; returns when its agent answers.
    Start(StartArgs),
    /// Stops a sandbox and removes its folder.
    Stop(NamedArgs),
    /// Lists sandboxes.
    List(ListArgs),
    /// Prints what the guest has printed.
    Console(ConsoleArgs),
    /// Runs a command in a sandbox that was started with --tools.
    Exec(ExecArgs),
}

/// The image folder.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// The folder of the image.
    #[arg(long, env = "PATCHBAY_IMAGE_DIR", default_value = DEFAULT_FOLDER, value_name = "DIR")]
    pub image: PathBuf,
    #[arg(long)]
    #[doc = "With the programs for trying and testing."]
    tools: bool,
}

impl ImageArgs {
    /// Whether the programs for trying and testing are wanted.
    #[must_use]
    pub fn tools(&self) -> Tools {
        if self.tools {
            Tools::With
        } else {
            Tools::Without
        }
    }
}

/// Arguments of `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// What to build.
    #[command(flatten)]
    pub image: ImageArgs,
    /// The Debian package of the kernel.
    #[arg(long, value_name = "PACKAGE", default_value = KERNEL_PACKAGE)]
    pub kernel: PackageName,
    /// With the tools of the image in this folder, instead of fetching them.
    #[arg(long, value_name = "DIR", conflicts_with = "tools")]
    tools_of: Option<PathBuf>,
    /// Where the static programs of the guest are; the folder of this program if not given.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

impl BuildArgs {
    /// Where the tools come from.
    #[must_use]
    pub fn tools(&self) -> ToolsFrom {
        match (&self.tools_of, self.image.tools()) {
            (Some(folder), _) => ToolsFrom::Image(folder.clone()),
            (None, Tools::With) => ToolsFrom::Packages,
            (None, Tools::Without) => ToolsFrom::Nowhere,
        }
    }
}

/// Arguments of `overlay`.
#[derive(Debug, Args)]
pub struct OverlayArgs {
    /// The folder that gets `rootfs` and `overlay.cpio`.
    pub folder: PathBuf,
    /// Where the static programs of the guest are; the folder of this program if not given.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The new sandbox's name.
    pub id: SandboxId,
    /// The machine's kind.
    #[arg(long, value_enum, default_value = "q35")]
    pub machine: Machine,
    /// Number of virtual CPUs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    pub cpus: u8,
    /// Memory in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub memory: u32,
    /// Number of root ports of a q35 machine: as many cards can be plugged.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=28))]
    pub ports: u8,
    /// Run QEMU in this network namespace: a name in /run/netns, or a path.
    #[arg(long, value_name = "NAME|PATH")]
    netns: Option<PathBuf>,
    /// Hardware virtualisation or software emulation.
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelChoice,
    /// What to boot.
    #[command(flatten)]
    pub image: ImageArgs,
    /// How many seconds the agent may take to answer.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u32,
    /// One more argument for QEMU; may be given again.
    #[arg(
        long = "extra-qemu-arg",
        value_name = "ARG",
        allow_hyphen_values = true
    )]
    pub extra: Vec<OsString>,
}

impl StartArgs {
    /// The namespace's path.
    #[must_use]
    pub fn netns(&self) -> Option<PathBuf> {
        let named = self.netns.as_ref()?;
        // Joining keeps an absolute path as it is.
        let is_name = named.components().count() == 1;
        Some(if is_name {
            PathBuf::from("/run/netns").join(named)
        } else {
            named.clone()
        })
    }

    /// How long the agent may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// Arguments of commands that only take a sandbox.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// The sandbox's id, or the beginning of it.
    pub id: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The sandbox.
    #[command(flatten)]
    pub sandbox: NamedArgs,
    /// Go on until the sandbox ends.
    #[arg(long, short)]
    pub follow: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The sandbox.
    #[command(flatten)]
    pub sandbox: NamedArgs,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    pub words: Vec<OsString>,
}
