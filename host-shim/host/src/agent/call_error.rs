//! Failures of calls, by whether the agent has answered.

use patchbay_types::failure::Failure;

/// Failure of a call.
#[derive(Debug)]
pub(super) enum CallError {
    /// The agent has refused it, or has undone it.
    Refused(Failure),
    /// The agent gave no answer.
    NoAnswer(Failure),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let (CallError::Refused(failure) | CallError::NoAnswer(failure)) = error;
        failure
    }
}
