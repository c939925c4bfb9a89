//! The error of both grammars.

use patchbay_types::conntrack::NoFilter;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{ServerRule, ServiceRule};
use patchbay_types::{FieldError, InvalidValue};

use crate::Spelling;

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
    /// Two options that exclude each other.
    #[error("{second} can't be combined with {first}")]
    Conflict {
        /// Option that comes first on the line.
        first: Spelling,
        /// Option that follows it.
        second: Spelling,
    },
    /// A value breaks a rule.
    #[error(transparent)]
    Value(#[from] FieldError),
    /// An option that a command or a kind of tunnel does not have.
    #[error("{command} does not take {option}")]
    NotTaken {
        /// Command or kind of tunnel.
        command: String,
        /// Option.
        option: Spelling,
    },
    /// An option requires something that is missing.
    #[error("{option} needs {needed}")]
    Needs {
        /// Option or command.
        option: String,
        /// Missing part.
        needed: &'static str,
    },
    /// An option depends on the value of one before it.
    #[error("{option} must follow {first}")]
    MustFollow {
        /// Option.
        option: Spelling,
        /// Option that must come before it.
        first: &'static str,
    },
    /// A flag of another scheduler.
    #[error("-b/--sched-flags {flag}: the scheduler {scheduler} has no such flag")]
    SchedFlag {
        /// Flag, escaped.
        flag: String,
        /// Scheduler.
        scheduler: String,
    },
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
    pub(crate) fn unknown(word: &str) -> Self {
        let rule = "no such option, and abbreviations are not accepted";
        Self::Unknown(InvalidValue::new(word, rule))
    }

    pub(crate) fn argument(word: &str) -> Self {
        Self::Argument(InvalidValue::new(word, "no option takes it as a value"))
    }

    pub(crate) fn needs(option: impl ToString, needed: &'static str) -> Self {
        Self::Needs {
            option: option.to_string(),
            needed,
        }
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Failure::new(Kind::Invalid, error.to_string())
    }
}
