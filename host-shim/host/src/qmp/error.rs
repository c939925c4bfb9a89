//! Errors of QMP sessions.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use patchbay_types::failure::{Failure, Kind};

use super::command::{QmpCapabilities, QmpCommand, QueryStatus};

/// Failed session or command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no QEMU answers at {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error(
        "the monitor {} gave no greeting in {} s: QEMU is stopped, or another program is connected, \
         as Kata's shim is to its qmp.sock (a monitor serves one client; patchbay-qemu adds another \
         one, and with Kata's Go runtime enable_debug = true and extra_monitor_socket = \"qmp\" do)",
        path.display(), waited.as_secs()
    )]
    Busy { path: PathBuf, waited: Duration },
    #[error(
        "the process that listens at {} belongs to user {user}: it must be root, the caller, or the owner \
         of the socket's folder",
        path.display()
    )]
    Foreign { path: PathBuf, user: u32 },
    #[error("QEMU (process {pid}) is stopped by a signal: continue it with kill -CONT {pid}")]
    Stopped { pid: u32 },
    #[error("the machine is not running: its state is {state}{advice}")]
    NotRunning { state: String, advice: &'static str },
    #[error("QEMU did not answer {command} within {} s", waited.as_secs())]
    Silent {
        command: &'static str,
        waited: Duration,
    },
    #[error("{command} was not sent: QEMU has not answered an earlier command")]
    Broken { command: &'static str },
    #[error(
        "could not start virsh, which uses libvirt's monitor of a domain: install libvirt's clients, or add a \
         second monitor to the domain (docs/libvirt.md)"
    )]
    NoVirsh { source: io::Error },
    #[error("libvirt returned no reply to a command: {text}")]
    Libvirt { text: String },
    #[error(
        "{command} can block the machine, and libvirt's monitor could not cancel it: add a second monitor to the \
         domain (docs/libvirt.md)"
    )]
    NoRescue { command: &'static str },
    #[error("QEMU closed the monitor")]
    Closed,
    #[error("I/O error on the QMP socket")]
    Io(#[from] io::Error),
    #[error("malformed QMP message: {0}")]
    Malformed(&'static str),
    #[error("QEMU refused {command}: {text}")]
    Refused {
        command: &'static str,
        class: String,
        text: String,
    },
}

impl Error {
    /// Returns whether the object to remove does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        let Error::Refused { class, text, .. } = self else {
            return false;
        };
        // netdev_del and closefd have only the generic class, so the text decides.
        class == "DeviceNotFound" || text.contains("not found") || text.contains("is not a netdev")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Kind::Denied
            }
            Error::Connect { .. } => Kind::NotFound,
            Error::Foreign { .. } => Kind::Denied,
            Error::Busy { .. }
            | Error::Stopped { .. }
            | Error::NotRunning { .. }
            | Error::Libvirt { .. } => Kind::NotYet,
            // The first commands of a session: nothing was changed.
            Error::Silent { command, .. }
                if matches!(*command, QmpCapabilities::NAME | QueryStatus::NAME) =>
            {
                Kind::NotYet
            }
            Error::Silent { .. } | Error::Broken { .. } => Kind::Timeout,
            Error::NoVirsh { .. } | Error::NoRescue { .. } => Kind::Unsupported,
            Error::Refused { .. } => Kind::Kernel,
            Error::Closed | Error::Io(_) | Error::Malformed(_) => Kind::Other,
        };
        Failure::of(kind, &error)
    }
}
