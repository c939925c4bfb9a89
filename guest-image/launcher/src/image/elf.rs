//! Run-time needs of ELF files: the loader and shared libraries.

use std::path::Path;

use goblin::elf::Elf;

use crate::error::Error;

/// Run-time needs of a program or a library.
pub(crate) struct Needs {
    /// Path of the loader; `None` for static programs and most libraries.
    pub(crate) loader: Option<String>,
    pub(crate) libraries: Vec<String>,
}

/// Reads the needs of an ELF file; `path` is for the error only.
pub(crate) fn needs_of(path: &Path, content: &[u8]) -> Result<Needs, Error> {
    let elf = Elf::parse(content).map_err(|_| Error::NotElf(path.to_owned()))?;
    Ok(Needs {
        loader: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.into_iter().map(str::to_owned).collect(),
    })
}

/// Checks that a program runs without a loader.
pub(super) fn require_static(path: &Path, content: &[u8]) -> Result<(), Error> {
    match needs_of(path, content)?.loader {
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
        let error = require_static(Path::new("x"), b"#!/bin/sh").unwrap_err();
        assert!(matches!(error, Error::NotElf(path) if path == Path::new("x")));
    }

    #[test]
    fn static_check_rejects_dynamic_program() {
        let path = std::env::current_exe().unwrap();
        let error = require_static(&path, &std::fs::read(&path).unwrap()).unwrap_err();
        assert!(matches!(error, Error::NotStatic { loader, .. } if loader.contains("ld-linux")));
    }
}
