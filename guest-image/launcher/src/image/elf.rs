//! Run-time needs of ELF files: the loader and shared libraries.

use std::path::Path;

use goblin::elf::Elf;

use crate::architecture::Architecture;
use crate::error::Error;

/// Run-time needs of a program or a library.
pub(crate) struct Needs {
    /// Path of the loader; `None` for static programs and most libraries.
    pub(crate) loader: Option<String>,
    pub(crate) libraries: Vec<String>,
    /// `e_machine` of the ELF header.
    machine: u16,
}

/// Reads the needs of an ELF file; `path` is for the error only.
pub(crate) fn needs_of(path: &Path, content: &[u8]) -> Result<Needs, Error> {
    let elf = Elf::parse(content).map_err(|_| Error::NotElf(path.to_owned()))?;
    Ok(Needs {
        machine: elf.header.e_machine,
        loader: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.into_iter().map(str::to_owned).collect(),
    })
}

/// Checks that a program is for the architecture and runs without a loader.
pub(super) fn require_static(
    path: &Path,
    content: &[u8],
    architecture: Architecture,
) -> Result<(), Error> {
    let needs = needs_of(path, content)?;
    if needs.machine != architecture.elf_machine() {
        return Err(Error::OtherArchitecture {
            path: path.to_owned(),
            wanted: architecture.name(),
        });
    }
    match needs.loader {
        None => Ok(()),
        Some(loader) => Err(Error::NotStatic {
            path: path.to_owned(),
            loader,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_check_rejects_text() {
        let error = require_static(Path::new("x"), b"#!/bin/sh", Architecture::Amd64).unwrap_err();
        assert!(matches!(error, Error::NotElf(path) if path == Path::new("x")));
    }

    #[test]
    fn static_check_rejects_dynamic_program() {
        let path = std::env::current_exe().unwrap();
        let content = std::fs::read(&path).unwrap();
        let error = require_static(&path, &content, Architecture::of_host()).unwrap_err();
        assert!(matches!(error, Error::NotStatic { loader, .. } if loader.contains("ld-linux")));
    }

    #[test]
    fn static_check_rejects_other_architecture() {
        let path = std::env::current_exe().unwrap();
        let other = match Architecture::of_host() {
            Architecture::Amd64 => Architecture::Arm64,
            Architecture::Arm64 => Architecture::Amd64,
        };
        let error = require_static(&path, &std::fs::read(&path).unwrap(), other).unwrap_err();
        assert!(matches!(error, Error::OtherArchitecture { wanted, .. } if wanted == other.name()));
    }
}
