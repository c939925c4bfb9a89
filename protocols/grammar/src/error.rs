//! The error of both grammars.

use std::borrow::Cow;

use patchbay_types::conntrack::NoFilter;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{Scheduler, ServerRule, ServiceRule};
use patchbay_types::{FieldError, InvalidValue};

use crate::spelling::Spelling;

/// Reason for refusing a command line. Names the option and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The grammar has no such option.
    #[error("option {0}")]
    Unknown(InvalidValue),
    /// A word is neither an option nor the value of one.
    #[error("argument {0}")]
    Argument(InvalidValue),
    /// The line ends after an option that takes a value.
    #[error("{0} needs a value")]
    MissingValue(Spelling),
    /// `--numeric=1`
    #[error("{0} takes no value")]
    UnwantedValue(Spelling),
    /// The line begins with something other than a command.
    #[error("the first option must be a command, such as --add-service or --list")]
    NoCommand,
    /// A command follows another option.
    #[error("{0} must be the first option")]
    NotFirst(Spelling),
    /// The same option twice.
    #[error("{0} given more than once")]
    Repeated(Spelling),
    /// An option that excludes one before it.
    #[error("{1} can't be combined with {0}")]
    Conflict(Spelling, Spelling),
    /// Two options with addresses of different families.
    #[error("{1} is of another address family than {0}")]
    Families(Spelling, Spelling),
    /// A word of conntrack that selects no flows.
    #[error("{0} is not a filter")]
    NotAFilter(Spelling),
    /// A value breaks a rule.
    #[error(transparent)]
    Value(#[from] FieldError),
    /// A command or tunnel type with an option that it does not have.
    #[error("{0} does not take {1}")]
    NotTaken(String, Spelling),
    /// An option or command without something that it requires.
    #[error("{0} needs {1}")]
    Needs(Spelling, &'static str),
    /// An option that depends on one before it.
    #[error("{0} must follow {1}")]
    MustFollow(Spelling, &'static str),
    /// A flag that the scheduler does not have.
    #[error("-b/--sched-flags {0}: the scheduler {1} has no such flag")]
    SchedFlag(String, Scheduler),
    /// Options of a service that contradict each other.
    #[error(transparent)]
    Service(#[from] ServiceRule),
    /// Options of a server that contradict each other or its service.
    #[error(transparent)]
    Server(#[from] ServerRule),
    /// Options of a filter that contradict each other, or none.
    #[error(transparent)]
    Filter(#[from] NoFilter),
}

impl ParseError {
    pub(crate) fn unknown(word: &str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::Unknown(InvalidValue::new(word, rule))
    }

    pub(crate) fn argument(word: &str) -> Self {
        Self::Argument(InvalidValue::new(word, "no option takes it as a value"))
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Failure::new(Kind::Invalid, error.to_string())
    }
}
