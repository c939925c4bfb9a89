//! Errors of commands and their exit codes.

use std::io;

use patchbay_types::failure::{Failure, Kind};

use crate::exec::ExecError;
use crate::image::ImageError;
use crate::launch::{LaunchError, StartError};

/// Error of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Error of building an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Error of starting, finding or stopping a sandbox.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Error of running a command in a sandbox.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Error of reading or writing the output.
    #[error("could not print the output")]
    Output(#[from] io::Error),
}

impl Error {
    /// Returns the kind, which determines the exit code as for `patchbay`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Launch(error) | Self::Exec(ExecError::Sandbox(error)) => launch_kind(error),
            Self::Exec(ExecError::NoTools(_)) => Kind::Unsupported,
            Self::Exec(ExecError::SandboxFile(failure)) => failure.kind(),
            Self::Image(_) | Self::Exec(_) | Self::Output(_) => Kind::Other,
        }
    }

    /// Returns the lines to print: the message with its causes, then details of a failed start.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![chain(self)];
        if let Self::Launch(LaunchError::NotStarted {
            undo_error,
            evidence,
            ..
        }) = self
        {
            let undo_error = undo_error.iter().map(|error| chain(error.as_ref()));
            lines.extend(undo_error.map(|error| format!("could not undo the start: {error}")));
            lines.extend(evidence.iter().cloned());
        }
        lines
    }
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

fn launch_kind(error: &LaunchError) -> Kind {
    match error {
        LaunchError::Ambiguous { .. } | LaunchError::PathTooLong(_) | LaunchError::Netns { .. } => {
            Kind::Invalid
        }
        LaunchError::NotFound(_) | LaunchError::NotRunning(_) => Kind::NotFound,
        LaunchError::Exists(_) => Kind::Exists,
        LaunchError::NotStarted {
            source: StartError::Timeout(_),
            ..
        } => Kind::Timeout,
        LaunchError::MissingProgram { .. }
        | LaunchError::Signals(_)
        | LaunchError::Image(_)
        | LaunchError::Registry(_)
        | LaunchError::Io { .. }
        | LaunchError::NotStarted { .. }
        | LaunchError::Stuck { .. } => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use patchbay_host::sandbox::SandboxId;

    use super::*;

    #[test]
    fn exit_code_follows_kind() {
        let code = |error| Error::Launch(error).kind().exit_code();
        assert_eq!(code(LaunchError::NotFound("x".into())), 3);
        assert_eq!(code(LaunchError::Exists("x".parse().unwrap())), 4);
        let timeout = LaunchError::NotStarted {
            id: "x".parse().unwrap(),
            source: StartError::Timeout(Duration::from_secs(1)),
            undo_error: None,
            evidence: Vec::new(),
        };
        assert_eq!(code(timeout), 9);
        let no_tools = Error::Exec(ExecError::NoTools("x".parse().unwrap()));
        assert_eq!(no_tools.kind().exit_code(), 7);
    }

    #[test]
    fn message_includes_causes() {
        let error = Error::Launch(LaunchError::Netns {
            path: "/run/netns/x".into(),
            source: io::ErrorKind::NotFound.into(),
        });
        let expected = "could not open the network namespace /run/netns/x: entity not found";
        assert_eq!(error.lines(), [expected]);
    }

    #[test]
    fn failed_start_prints_undo_error_and_logs() {
        let id: SandboxId = "x".parse().unwrap();
        let error = Error::Launch(LaunchError::NotStarted {
            id: id.clone(),
            source: StartError::Interrupted,
            undo_error: Some(Box::new(LaunchError::Stuck { id, pid: 7 })),
            evidence: vec!["console.log: panic".into()],
        });
        let expected = [
            "could not start sandbox x: interrupted",
            "could not undo the start: process 7 of sandbox x does not end",
            "console.log: panic",
        ];
        assert_eq!(error.lines(), expected);
    }
}
