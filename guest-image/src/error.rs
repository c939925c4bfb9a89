//! What can go wrong in a command, and the exit code that says it.

use std::error::Error as _;
use std::io;

use patchbay_protocols::failure::Kind;

use crate::exec::ExecError;
use crate::image::ImageError;
use crate::launch::{Failure, LaunchError};

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
    /// Its kind, whose exit code tells a script what happened; the same as `patchbay`'s.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Launch(error) | Self::Exec(ExecError::Sandbox(error)) => launch_kind(error),
            Self::Exec(ExecError::NoTools(_)) => Kind::Unsupported,
            Self::Image(_) | Self::Exec(_) | Self::Output(_) => Kind::Other,
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

fn launch_kind(error: &LaunchError) -> Kind {
    match error {
        LaunchError::BadId(_)
        | LaunchError::Ambiguous { .. }
        | LaunchError::PathTooLong(_)
        | LaunchError::Netns { .. } => Kind::Invalid,
        LaunchError::NotFound(_) | LaunchError::NotRunning(_) => Kind::NotFound,
        LaunchError::Exists(_) => Kind::Exists,
        LaunchError::NotStarted {
            source: Failure::Timeout(_),
            ..
        } => Kind::Timeout,
        LaunchError::MissingProgram { .. }
        | LaunchError::Signals(_)
        | LaunchError::Image(_)
        | LaunchError::Io { .. }
        | LaunchError::NotStarted { .. }
        | LaunchError::Stuck { .. } => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn exit_codes_say_what_happened() {
        let code = |error| Error::Launch(error).kind().exit_code();
        assert_eq!(code(LaunchError::NotFound("x".into())), 3);
        assert_eq!(code(LaunchError::Exists("x".parse().unwrap())), 4);
        let timeout = LaunchError::NotStarted {
            id: "x".parse().unwrap(),
            source: Failure::Timeout(Duration::from_secs(1)),
            evidence: Vec::new(),
        };
        assert_eq!(code(timeout), 9);
        let no_tools = Error::Exec(ExecError::NoTools("x".parse().unwrap()));
        assert_eq!(no_tools.kind().exit_code(), 7);
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
