//! The files of one sandbox.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::LaunchError;
use super::registry::Record;

/// What others read to find the sandbox's ways in: `sandbox.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// QEMU's control socket.
    pub qmp: PathBuf,
    /// The agent's URL.
    pub agent: String,
    /// The network namespace of QEMU, when it isn't the launcher's.
    pub netns: Option<PathBuf>,
    /// QEMU's process id.
    pub pid: u32,
}

/// The folder of one sandbox.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

const DESCRIPTION: &str = "sandbox.json";
const RECORD: &str = "processes.json";

/// What the kernel takes as the path of a Unix socket, without the final NUL.
const MAX_SOCKET_PATH: usize = 107;

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the guest printed.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// QEMU's control socket.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.path.join("qmp.sock")
    }

    /// The socket that leads to the guest's vsock.
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

    /// Checks that the kernel takes the sockets' paths.
    pub(super) fn check_socket_paths(&self) -> Result<(), LaunchError> {
        for path in [self.qmp(), self.vsock(), self.vhost()] {
            if path.as_os_str().len() > MAX_SOCKET_PATH {
                return Err(LaunchError::PathTooLong(path));
            }
        }
        Ok(())
    }

    /// Reads `sandbox.json`, which is there once the agent has answered.
    pub fn read_description(&self) -> Result<Option<Description>, LaunchError> {
        self.read(DESCRIPTION)
    }

    pub(super) fn write_description(&self, description: &Description) -> Result<(), LaunchError> {
        self.write(DESCRIPTION, description)
    }

    pub(super) fn read_record(&self) -> Result<Option<Record>, LaunchError> {
        self.read(RECORD)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), LaunchError> {
        self.write(RECORD, record)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, LaunchError> {
        let path = self.path.join(name);
        let result = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        result
            .map(Some)
            .map_err(|source| LaunchError::Io { path, source })
    }

    /// Readers see the old content or the new one, never half of it.
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
