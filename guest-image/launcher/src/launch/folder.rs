//! Files of a sandbox.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use patchbay_host::sandbox::{SandboxFile, json_if_exists};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::LaunchError;
use super::record::Record;

/// Folder of a sandbox.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

const RECORD: &str = "processes.json";

/// `sizeof(sun_path)` without the final NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Output of the guest's console.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// QMP socket.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.path.join("qmp.sock")
    }

    /// Unix socket of the vsock daemon, for connections to the guest.
    #[must_use]
    pub fn vsock(&self) -> PathBuf {
        self.path.join("vsock.sock")
    }

    pub(super) fn vhost(&self) -> PathBuf {
        self.path.join("vhost.sock")
    }

    pub(super) fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    pub(super) fn vsock_log(&self) -> PathBuf {
        self.path.join("vsock.log")
    }

    /// Checks the length of the sockets' paths.
    pub(super) fn check_socket_paths(&self) -> Result<(), LaunchError> {
        for path in [self.qmp(), self.vsock(), self.vhost()] {
            if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
                return Err(LaunchError::PathTooLong(path));
            }
        }
        Ok(())
    }

    pub(super) fn write_sandbox_file(&self, file: &SandboxFile) -> Result<(), LaunchError> {
        self.write(SandboxFile::NAME, file)
    }

    pub(super) fn read_record(&self) -> Result<Option<Record>, LaunchError> {
        Ok(json_if_exists(&self.path.join(RECORD))?)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), LaunchError> {
        self.write(RECORD, record)
    }

    /// Replaces a file atomically.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), LaunchError> {
        let path = self.path.join(name);
        let written = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(&self.path)?;
            serde_json::to_writer_pretty(&mut file, value)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok(())
        };
        written().map_err(|source| LaunchError::Io {
            path: path.clone(),
            source,
        })
    }
}
