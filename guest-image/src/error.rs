//! What can go wrong in a command, and the exit code that says it.

use std::error::Error as _;
use std::io;

use crate::exec::ExecError;
use crate::image::ImageError;
use crate::launch::{Failure, LaunchError};

/// The exit codes of `patchbay-sandbox`, the same as those of `patchbay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Anything else.
    Other = 1,
    /// The arguments make no sense.
    Invalid = 2,
    /// No such sandbox.
    NotFound = 3,
    /// The sandbox is there already.
    Exists = 4,
    /// This sandbox can't do that.
    Unsupported = 7,
    /// The agent did not answer in time.
    Timeout = 9,
}

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// While building an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// While starting, finding or stopping a sandbox.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// While running a command in the guest.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// While printing.
    #[error("The output can't be written.")]
    Output(#[from] io::Error),
}

impl Error {
    /// The exit code that tells a script what happened.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Launch(error) | Self::Exec(ExecError::Sandbox(error)) => launch_code(error),
            Self::Exec(ExecError::NoTools(_)) => ExitCode::Unsupported,
            Self::Image(_) | Self::Exec(_) | Self::Output(_) => ExitCode::Other,
        }
    }

    /// The message with its causes, as one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            sentence = format!("{}: {error}", sentence.trim_end_matches('.'));
            cause = error.source();
        }
        sentence
    }

    /// More lines that help to understand it.
    #[must_use]
    pub fn evidence(&self) -> &[String] {
        match self {
            Self::Launch(LaunchError::NotStarted { evidence, .. }) => evidence,
            _ => &[],
        }
    }
}

fn launch_code(error: &LaunchError) -> ExitCode {
    match error {
        LaunchError::BadId(_)
        | LaunchError::Ambiguous { .. }
        | LaunchError::PathTooLong(_)
        | LaunchError::Netns { .. } => ExitCode::Invalid,
        LaunchError::NotFound(_) | LaunchError::NotRunning(_) => ExitCode::NotFound,
        LaunchError::Exists(_) => ExitCode::Exists,
        LaunchError::NotStarted {
            source: Failure::Timeout(_),
            ..
        } => ExitCode::Timeout,
        LaunchError::MissingProgram { .. }
        | LaunchError::Signals(_)
        | LaunchError::Image(_)
        | LaunchError::Io { .. }
        | LaunchError::NotStarted { .. }
        | LaunchError::Stuck { .. } => ExitCode::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn exit_codes_say_what_happened() {
        let code = |error| Error::Launch(error).exit_code() as u8;
        assert_eq!(code(LaunchError::NotFound("x".into())), 3);
        assert_eq!(code(LaunchError::Exists("x".parse().unwrap())), 4);
        let timeout = LaunchError::NotStarted {
            id: "x".parse().unwrap(),
            source: Failure::Timeout(Duration::from_secs(1)),
            evidence: Vec::new(),
        };
        assert_eq!(code(timeout), 9);
        let no_tools = Error::Exec(ExecError::NoTools("x".parse().unwrap()));
        assert_eq!(no_tools.exit_code() as u8, 7);
    }

    #[test]
    fn sentence_holds_the_causes() {
        let error = Error::Launch(LaunchError::Netns {
            path: "/run/netns/x".into(),
            source: io::ErrorKind::NotFound.into(),
        });
        let expected = "The network namespace /run/netns/x can't be opened: entity not found";
        assert_eq!(error.sentence(), expected);
    }
}
