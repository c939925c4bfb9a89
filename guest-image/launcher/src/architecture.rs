//! Architectures of guests.

use std::env::consts::ARCH;

use goblin::elf::header::{EM_AARCH64, EM_X86_64};
use serde::{Deserialize, Serialize};

/// Architecture of a guest, by Debian's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Architecture {
    /// 64-bit x86
    Amd64,
    /// 64-bit Arm
    Arm64,
}

impl Architecture {
    /// Returns the architecture of this program.
    pub(crate) fn of_host() -> Self {
        match ARCH {
            "aarch64" => Self::Arm64,
            _ => Self::Amd64,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Returns `e_machine` of its ELF files.
    pub(crate) fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => EM_X86_64,
            Self::Arm64 => EM_AARCH64,
        }
    }

    /// Returns the folder of its libraries below `/lib` and `/usr/lib`.
    pub(crate) fn library_folder(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Returns the name of QEMU's program, and its Debian package.
    pub(crate) fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("qemu-system-x86_64", "Debian package qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "Debian package qemu-system-arm"),
        }
    }
}
