//! Errors of commands and their exit codes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use patchbay_host::sandbox::SandboxId;
use patchbay_init::frame::FrameError;
use patchbay_types::failure::{Failure, Kind};

use crate::bzimage::BzImageError;

/// Error of a command. Text from the guest and from other programs is escaped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not read or write {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("could not print the output")]
    Output(#[source] io::Error),

    // Images.
    #[error("the image has no {}: create it with `patchbay-sandbox {}`", .path.display(), .command)]
    Incomplete {
        path: PathBuf,
        command: &'static str,
    },
    #[error("no program {}: build it statically, or name its folder with --bin-dir", .0.display())]
    NoGuestProgram(PathBuf),
    #[error("{} is not a program for {wanted}: build it for {wanted}, and name its folder with --bin-dir", .path.display())]
    OtherArchitecture { path: PathBuf, wanted: &'static str },
    #[error(
        "--machine {machine} needs an image for {wanted}, that in {} is for {found}: build one with \
         `patchbay-sandbox build --arch {wanted}`, or choose another machine", .folder.display()
    )]
    OtherMachine {
        machine: &'static str,
        wanted: &'static str,
        found: &'static str,
        folder: PathBuf,
    },
    #[error("{} is neither an ELF kernel nor an arm64 image", .0.display())]
    UnknownKernel(PathBuf),
    #[error("the kernel package does not have exactly one kernel with modules")]
    NoKernel,
    #[error("could not extract the kernel from the bzImage")]
    BzImage(#[from] BzImageError),
    #[error("the kernel package has no module {0}")]
    MissingModule(String),
    #[error("could not start {program}: building images needs Debian's apt, dpkg and kmod")]
    ToolNotStarted { program: String, source: io::Error },
    #[error("{program} failed ({reason}); if packages are not found, run apt-get update")]
    ToolFailed { program: String, reason: String },
    #[error("the packages of the tools have no {0}")]
    MissingTool(String),
    #[error("{} is not an ELF program", .0.display())]
    NotElf(PathBuf),
    #[error(
        "{} is not linked statically (its loader is {loader}): build it with \
         RUSTFLAGS=\"-C target-feature=+crt-static\" and an explicit --target",
        .path.display()
    )]
    NotStatic { path: PathBuf, loader: String },

    // Starting, finding and stopping sandboxes.
    #[error("there is a sandbox {id} already; its state is {state}")]
    Exists { id: SandboxId, state: &'static str },
    #[error(
        "sandbox {id} was not started by patchbay-sandbox: end its machine with the program that started it, \
         then delete {}",
        .folder.display()
    )]
    Foreign { id: SandboxId, folder: PathBuf },
    #[error("no sandbox {0:?}")]
    NotFound(String),
    #[error("sandbox {0} is not running")]
    NotRunning(SandboxId),
    #[error("{prefix:?} matches several sandboxes, among them {first} and {second}")]
    Ambiguous {
        prefix: String,
        first: SandboxId,
        second: SandboxId,
    },
    #[error("{program} is not installed ({hint})")]
    MissingProgram {
        program: &'static str,
        hint: &'static str,
    },
    #[error("{}", .0.line())]
    Netns(Failure),
    #[error("the socket path {} is longer than 107 bytes: choose a shorter --run-dir", .0.display())]
    PathTooLong(PathBuf),
    #[error("another process has held the lock {} for more than 30 s", .0.display())]
    Locked(PathBuf),
    #[error("could not catch signals")]
    Signals(#[source] io::Error),
    #[error("could not read the registered sandboxes")]
    Registry(#[from] Failure),
    /// The start failed and was undone as far as possible.
    #[error("could not start sandbox {id}")]
    NotStarted {
        id: SandboxId,
        source: Box<Error>,
        undo_error: Option<Box<Error>>,
        /// Last lines of its logs.
        evidence: Vec<String>,
    },
    #[error("could not start {}", .program.display())]
    NotSpawned { program: PathBuf, source: io::Error },
    #[error("{} ended ({status})", .program.display())]
    Ended {
        program: PathBuf,
        status: ExitStatus,
    },
    #[error("the agent did not answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    /// By Ctrl-C, SIGTERM or SIGHUP.
    #[error("interrupted")]
    Interrupted,
    #[error("could not limit the size of the logs")]
    LogLimit(#[source] io::Error),
    /// Survives SIGKILL.
    #[error("process {pid} of sandbox {id} does not end")]
    Stuck { id: SandboxId, pid: u32 },

    // Commands in a sandbox.
    #[error("sandbox {0} can't run commands: it was started without --tools")]
    NoTools(SandboxId),
    #[error("could not connect to the command server")]
    NotReady(#[source] Failure),
    #[error("could not connect to the command server of sandbox {id}")]
    Unreachable { id: SandboxId, source: io::Error },
    #[error("the connection to the guest ended before the command")]
    ConnectionLost,
    #[error("could not exchange data with the guest")]
    Frame(#[from] FrameError),
    /// `sandbox.json` is missing because the sandbox is starting, or it is invalid.
    #[error("could not read the sandbox's address")]
    SandboxFile(#[source] Failure),
    #[error("could not write the command's output")]
    CommandOutput(#[source] io::Error),
}

impl Error {
    /// Returns the kind, which determines the exit code as for `patchbay`.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Ambiguous { .. }
            | Self::PathTooLong(_)
            | Self::Netns(_)
            | Self::OtherArchitecture { .. }
            | Self::OtherMachine { .. } => Kind::Invalid,
            Self::NotFound(_) | Self::NotRunning(_) => Kind::NotFound,
            Self::Exists { .. } => Kind::Exists,
            Self::Foreign { .. } => Kind::Denied,
            Self::NoTools(_) => Kind::Unsupported,
            Self::Unreachable { source, .. } => match source.kind() {
                // The machine was frozen or paused after it was queried.
                io::ErrorKind::TimedOut => Kind::NotYet,
                io::ErrorKind::PermissionDenied => Kind::Denied,
                _ => Kind::NotFound,
            },
            Self::Locked(_) => Kind::Timeout,
            Self::Registry(failure) | Self::SandboxFile(failure) | Self::NotReady(failure) => {
                failure.kind()
            }
            Self::NotStarted { source, .. } if matches!(**source, Self::Timeout(_)) => {
                Kind::Timeout
            }
            _ => Kind::Other,
        }
    }

    /// Returns the lines to print: the message with its causes, then details of a failed start.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![chain(self)];
        if let Self::NotStarted {
            undo_error,
            evidence,
            ..
        } = self
        {
            let undo_error = undo_error.iter().map(|error| chain(error.as_ref()));
            lines.extend(undo_error.map(|error| format!("could not undo the start: {error}")));
            lines.extend(evidence.iter().cloned());
        }
        lines
    }
}

/// Adds a path to an error of the file system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut messages = Vec::new();
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        messages.push(cause.to_string());
        let failure = cause.downcast_ref::<Failure>();
        let causes = failure.into_iter().flat_map(Failure::chain);
        messages.extend(causes.map(str::to_owned));
    }
    messages.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_follows_kind() {
        let code = |error: Error| error.kind().exit_code();
        assert_eq!(code(Error::NotFound("x".into())), 3);
        let exists = Error::Exists {
            id: "x".parse().unwrap(),
            state: "running",
        };
        assert_eq!(code(exists), 4);
        let timeout = Error::NotStarted {
            id: "x".parse().unwrap(),
            source: Box::new(Error::Timeout(Duration::from_secs(1))),
            undo_error: None,
            evidence: Vec::new(),
        };
        assert_eq!(code(timeout), 9);
        let no_tools = Error::NoTools("x".parse().unwrap());
        assert_eq!(no_tools.kind().exit_code(), 7);
    }

    #[test]
    fn message_includes_causes() {
        let error = Error::Signals(io::ErrorKind::NotFound.into());
        let expected = "could not catch signals: entity not found";
        assert_eq!(error.lines(), [expected]);
    }

    #[test]
    fn failed_start_prints_undo_error_and_logs() {
        let id: SandboxId = "x".parse().unwrap();
        let error = Error::NotStarted {
            id: id.clone(),
            source: Box::new(Error::Interrupted),
            undo_error: Some(Box::new(Error::Stuck { id, pid: 7 })),
            evidence: vec!["console.log: panic".into()],
        };
        let expected = [
            "could not start sandbox x: interrupted",
            "could not undo the start: process 7 of sandbox x does not end",
            "console.log: panic",
        ];
        assert_eq!(error.lines(), expected);
    }
}
