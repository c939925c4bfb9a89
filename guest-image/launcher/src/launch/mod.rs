//! Starting, finding and stopping sandboxes.

pub mod accel;
pub mod folder;
pub mod processes;
pub mod qemu;
pub mod registry;
pub mod vsock;

mod attempt;
mod interrupt;
mod logs;
mod spawn;
mod start;
mod stop;

use std::io;
use std::path::PathBuf;

pub use attempt::Failure;
pub use start::{StartOptions, start};
pub use stop::stop;

use crate::image::ImageError;
use registry::{BadId, SandboxId};

/// Something that keeps a sandbox from being started, found or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The id breaks the rule.
    #[error(transparent)]
    BadId(#[from] BadId),
    /// The name is taken by a sandbox that runs.
    #[error("The sandbox {0} exists and is running.")]
    Exists(SandboxId),
    /// No sandbox has this id or prefix.
    #[error("There is no sandbox {0:?}.")]
    NotFound(String),
    /// The sandbox is known but doesn't run.
    #[error("The sandbox {0} is not running.")]
    NotRunning(SandboxId),
    /// More than one id begins so.
    #[error("{prefix:?} could be {first} or {second}.")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// One of those that match.
        first: SandboxId,
        /// Another one.
        second: SandboxId,
    },
    /// A program that isn't part of patchbay isn't installed.
    #[error("{program} is not installed ({hint}).")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// The namespace isn't there.
    #[error("The network namespace {} can't be opened.", .path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Unix sockets have short paths.
    #[error("The socket path {} is longer than the kernel allows.", .0.display())]
    PathTooLong(PathBuf),
    /// The launcher can't watch for signals.
    #[error("Signals can't be watched for.")]
    Signals(#[source] io::Error),
    /// The image can't be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file or folder can't be read or written.
    #[error("{} can't be read or written.", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was begun, failed, and was undone, as far as that could be done.
    #[error("The sandbox {id} did not start.")]
    NotStarted {
        /// Its name.
        id: SandboxId,
        /// Why.
        source: Failure,
        /// What kept it from being undone wholly.
        left: Option<Box<LaunchError>>,
        /// The last lines of its console and of its programs, made safe for a terminal.
        evidence: Vec<String>,
    },
    /// A process of the sandbox doesn't end.
    #[error("The process {pid} of the sandbox {id} does not end.")]
    Stuck {
        /// Its name.
        id: SandboxId,
        /// The process.
        pid: u32,
    },
}
