//! What the image builder needs to know of ELF programs: is it static, what does it link to.

use std::path::{Path, PathBuf};

use goblin::elf::Elf;

/// A program that can't be put into the image.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not an ELF file at all.
    #[error("{} is not an ELF program.", .0.display())]
    NotElf(PathBuf),
    /// The base image holds no shared libraries.
    #[error(
        "{} is not linked statically (it wants the loader {loader}): build it with \
         RUSTFLAGS=\"-C target-feature=+crt-static\" and an explicit --target.",
        .path.display()
    )]
    NotStatic {
        /// The program.
        path: PathBuf,
        /// The loader it asks for.
        loader: String,
    },
}

/// What a program needs at run time.
#[derive(Debug, PartialEq, Eq)]
pub struct Needs {
    /// The loader's path; `None` for a static program and for most libraries.
    pub loader: Option<String>,
    /// The names of shared libraries.
    pub libraries: Vec<String>,
}

/// Reads what the ELF file needs; `path` is for the message only.
pub fn needs_of(path: &Path, content: &[u8]) -> Result<Needs, ElfError> {
    let elf = Elf::parse(content).map_err(|_| ElfError::NotElf(path.to_owned()))?;
    Ok(Needs {
        loader: elf.interpreter.map(str::to_owned),
        libraries: elf
            .libraries
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
    })
}

/// Checks that the program runs without a loader.
pub fn require_static(path: &Path, content: &[u8]) -> Result<(), ElfError> {
    match needs_of(path, content)?.loader {
        None => Ok(()),
        Some(loader) => Err(ElfError::NotStatic {
            path: path.to_owned(),
            loader,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_elf() {
        let error = require_static(Path::new("x"), b"#!/bin/sh").unwrap_err();
        assert!(matches!(error, ElfError::NotElf(path) if path == Path::new("x")));
    }

    #[test]
    fn this_test_is_not_static() {
        let path = std::env::current_exe().unwrap();
        let error = require_static(&path, &std::fs::read(&path).unwrap()).unwrap_err();
        assert!(matches!(error, ElfError::NotStatic { loader, .. } if loader.contains("ld-linux")));
    }
}
