//! Files of a sandbox.

use std::io;
use std::path::{Path, PathBuf};

use patchbay_host::private;
use patchbay_host::sandbox::json_if_exists;
use serde::Serialize;

use super::processes::Record;
use crate::error::{Error, at};

// Files of a sandbox besides `sandbox.json`.

/// Output of the guest's console.
pub(crate) const CONSOLE: &str = "console.log";
pub(crate) const QMP: &str = "qmp.sock";
/// Unix socket of the vsock daemon, for connections to the guest.
pub(super) const VSOCK: &str = "vsock.sock";
/// Unix socket of the vsock daemon, for QEMU.
pub(super) const VHOST: &str = "vhost.sock";
pub(super) const QEMU_LOG: &str = "qemu.log";
pub(super) const VSOCK_LOG: &str = "vsock.log";
const RECORD: &str = "processes.json";

/// `sizeof(sun_path)` without the final NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Folder of a sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Checks the length of the sockets' paths.
    pub(super) fn check_socket_paths(&self) -> Result<(), Error> {
        for path in [QMP, VSOCK, VHOST].map(|name| self.file(name)) {
            if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
                return Err(Error::PathTooLong(path));
            }
        }
        Ok(())
    }

    pub(super) fn read_record(&self) -> Result<Option<Record>, Error> {
        Ok(json_if_exists(&self.file(RECORD))?)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), Error> {
        self.write(RECORD, record)
    }

    /// Replaces a file atomically.
    pub(super) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.file(name);
        let written = || -> io::Result<()> {
            let mut text = serde_json::to_vec_pretty(value)?;
            text.push(b'\n');
            private::replace(&path, &text)
        };
        written().map_err(at(&path))
    }
}
