//! Options of a new sandbox.

use std::ffi::OsString;
use std::num::ParseIntError;
use std::path::{self, PathBuf};
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use patchbay_host::sandbox::{SandboxId, netns_path};
use serde::{Deserialize, Serialize};

use super::accel::AccelChoice;
use crate::architecture::Architecture;
use crate::error::Error;
use crate::image::Image;

/// QEMU machine type; it determines where cards can be plugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MachineType {
    /// PCI Express, with a root port for every card
    Q35,
    /// Conventional PCI, with one bridge for all cards
    Pc,
    /// arm64's machine: PCI Express, with a root port for every card
    Virt,
}

impl MachineType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::Pc => "pc",
            Self::Virt => "virt",
        }
    }

    pub(crate) fn architecture(self) -> Architecture {
        match self {
            Self::Q35 | Self::Pc => Architecture::Amd64,
            Self::Virt => Architecture::Arm64,
        }
    }

    /// Returns the machine type that sandboxes of an architecture have by default.
    pub(crate) fn default_of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Amd64 => Self::Q35,
            Architecture::Arm64 => Self::Virt,
        }
    }
}

/// Arguments of `start`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StartOptions {
    /// Id of the new sandbox
    pub(crate) id: SandboxId,
    /// QEMU machine type [default: q35, or virt for an arm64 image]
    #[arg(long, value_enum)]
    machine: Option<MachineType>,
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) cpus: u8,
    /// Memory in MiB
    #[arg(long = "memory", default_value_t = 256, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub(crate) memory_mib: u32,
    /// Number of root ports of a q35 or virt machine, one per card
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=28))]
    pub(crate) ports: u8,
    /// Network namespace of QEMU: a name in /run/netns, or a path
    #[arg(long, value_name = "NAME|PATH",
          value_parser = PathBufValueParser::new().map(|netns| netns_path(&netns)).try_map(path::absolute))]
    pub(crate) netns: Option<PathBuf>,
    /// Hardware virtualization or software emulation
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) accel: AccelChoice,
    #[command(flatten)]
    pub(crate) image: Image,
    /// Seconds until the agent has to answer
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Further argument for QEMU; can be repeated
    #[arg(
        long = "extra-qemu-arg",
        value_name = "ARG",
        allow_hyphen_values = true
    )]
    pub(crate) extra: Vec<OsString>,
}

impl StartOptions {
    /// Returns the machine type, which the image must fit.
    pub(crate) fn machine(&self) -> Result<MachineType, Error> {
        let found = self.image.architecture()?;
        let machine = self.machine.unwrap_or(MachineType::default_of(found));
        let wanted = machine.architecture();
        if wanted == found {
            return Ok(machine);
        }
        Err(Error::OtherMachine {
            machine: machine.name(),
            wanted: wanted.name(),
            found: found.name(),
            folder: self.image.folder().to_owned(),
        })
    }
}

fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    Ok(Duration::from_secs(text.parse::<u32>()?.into()))
}
