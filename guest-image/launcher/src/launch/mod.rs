//! Starts, finds and stops sandboxes.

pub mod accel;
pub mod folder;
pub mod options;
pub mod processes;
pub mod record;
pub mod registry;

mod attempt;
mod interrupt;
mod logs;
mod qemu;
mod spawn;
mod start;
mod stop;
mod vsock;

use std::io;
use std::path::PathBuf;

pub use attempt::StartError;
pub use start::start;
pub use stop::stop;

use patchbay_host::sandbox::SandboxId;
use patchbay_types::failure::Failure;

use crate::image::ImageError;

/// Error of starting, finding or stopping a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The id belongs to a running sandbox.
    #[error("sandbox {0} is running already")]
    Exists(SandboxId),
    /// No sandbox has this id or prefix.
    #[error("no sandbox {0:?}")]
    NotFound(String),
    /// The sandbox is registered but does not run.
    #[error("sandbox {0} is not running")]
    NotRunning(SandboxId),
    /// The prefix is not unique.
    #[error("{prefix:?} matches several sandboxes, among them {first} and {second}")]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// The first match.
        first: SandboxId,
        /// The second match.
        second: SandboxId,
    },
    /// A required program is not installed.
    #[error("{program} is not installed ({hint})")]
    MissingProgram {
        /// Name of the program.
        program: &'static str,
        /// How to install it.
        hint: &'static str,
    },
    /// The network namespace can't be opened.
    #[error("could not open the network namespace {}", .path.display())]
    Netns {
        /// Path of the namespace.
        path: PathBuf,
        /// Error of the operation.
        source: io::Error,
    },
    /// The path of a Unix socket is too long.
    #[error("the socket path {} is longer than 107 bytes: choose a shorter --run-dir", .0.display())]
    PathTooLong(PathBuf),
    /// Signals can't be caught.
    #[error("could not catch signals")]
    Signals(#[source] io::Error),
    /// The image can't be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file of the sandbox, or the run directory, can't be read.
    #[error("could not read the registered sandboxes")]
    Registry(#[from] Failure),
    /// A file or folder can't be read or written.
    #[error("could not read or write {}", .path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operation.
        source: io::Error,
    },
    /// The start failed and was undone as far as possible.
    #[error("could not start sandbox {id}")]
    NotStarted {
        /// Id of the sandbox.
        id: SandboxId,
        /// Reason.
        source: StartError,
        /// Error of undoing the start.
        undo_error: Option<Box<LaunchError>>,
        /// Last lines of its console and its programs' logs, escaped.
        evidence: Vec<String>,
    },
    /// A process of the sandbox survives SIGKILL.
    #[error("process {pid} of sandbox {id} does not end")]
    Stuck {
        /// Id of the sandbox.
        id: SandboxId,
        /// Process id.
        pid: u32,
    },
}
