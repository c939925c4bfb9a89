//! What can go wrong in a command, and the exit code that says it.

use std::io;

use patchbay_types::failure::Kind;

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
        sentence(self)
    }

    /// More lines that help to understand it.
    #[must_use]
    pub fn evidence(&self) -> Vec<String> {
        let Self::Launch(LaunchError::NotStarted { left, evidence, .. }) = self else {
            return Vec::new();
        };
        let undoing = left
            .iter()
            .map(|error| format!("It could not be undone: {}", sentence(error.as_ref())));
        undoing.chain(evidence.iter().cloned()).collect()
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{}: {error}", sentence.trim_end_matches('.'));
        cause = error.source();
    }
    sentence
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
    use crate::launch::registry::SandboxId;

    #[test]
    fn exit_codes_say_what_happened() {
        let code = |error| Error::Launch(error).kind().exit_code();
        assert_eq!(code(LaunchError::NotFound("x".into())), 3);
        assert_eq!(code(LaunchError::Exists("x".parse().unwrap())), 4);
        let timeout = LaunchError::NotStarted {
            id: "x".parse().unwrap(),
            source: Failure::Timeout(Duration::from_secs(1)),
            left: None,
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
    #[test]
    fn a_failure_and_what_kept_it_from_being_undone_are_both_told() {
        let id: SandboxId = "x".parse().unwrap();
        let error = Error::Launch(LaunchError::NotStarted {
            id: id.clone(),
            source: Failure::Interrupted,
            left: Some(Box::new(LaunchError::Stuck { id, pid: 7 })),
            evidence: vec!["console.log: panic".into()],
        });
        let told = [
            "It could not be undone: The process 7 of the sandbox x does not end.",
            "console.log: panic",
        ];
        assert_eq!(
            error.sentence(),
            "The sandbox x did not start: It was interrupted."
        );
        assert_eq!(error.evidence(), told);
    }
}
