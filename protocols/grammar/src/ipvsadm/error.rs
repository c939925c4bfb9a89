//! Why a line of ipvsadm's words is refused: always the option and the rule.

use std::fmt;

use super::options::{Key, Row};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::{ServerRule, ServiceRule};
use patchbay_types::{FieldError, InvalidValue};

/// An option as messages name it: both spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling(String);

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Row> for Spelling {
    fn from(row: &Row) -> Self {
        Self(row.name())
    }
}

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such option.
    #[error("option {0}")]
    Unknown(InvalidValue),
    /// Nothing follows.
    #[error("{0} needs a value")]
    MissingValue(Spelling),
    /// `--numeric=1`
    #[error("{0} takes no value")]
    UnwantedValue(Spelling),
    /// The first option is none that says what to do.
    #[error("the first option must be a command, such as --add-service or --list")]
    NoCommand,
    /// A second command.
    #[error("{0} can't stand behind another command")]
    SecondCommand(Spelling),
    /// Twice the same, or two of which one is enough.
    #[error("{second} can't stand behind {first}: one of its kind is allowed")]
    Repeated {
        /// The one before.
        first: Spelling,
        /// The one too many.
        second: Spelling,
    },
    /// A word that is no option and no value.
    #[error("the word {0}")]
    Word(InvalidValue),
    /// A value that breaks a rule.
    #[error("{0}")]
    Value(#[from] FieldError),
    /// The command does not know the option.
    #[error("{option} is not for {command}")]
    NotFor {
        /// Option.
        option: Spelling,
        /// Command.
        command: Spelling,
    },
    /// The command can't do without.
    #[error("{command} needs {option}")]
    Needed {
        /// Options of which one is needed.
        option: &'static str,
        /// Command.
        command: Spelling,
    },
    /// Two options that exclude each other.
    #[error("{second} can't stand beside {first}")]
    Conflict {
        /// One.
        first: Spelling,
        /// The other.
        second: Spelling,
    },
    /// `-6` says of a mark what family it has.
    #[error("-6/--ipv6 belongs behind -f/--fwmark-service")]
    Ipv6First,
    /// `--set` has three values.
    #[error("--set needs three timeouts in seconds: tcp, tcpfin and udp")]
    ThreeTimeouts,
    /// A flag of another scheduler.
    #[error("-b/--sched-flags {flag}: the scheduler {scheduler} has no such flag")]
    Flag {
        /// The flag.
        flag: String,
        /// The scheduler.
        scheduler: String,
    },
    /// A tunnel's option without a tunnel.
    #[error("{0} needs a tunnel (-i/--ipip)")]
    NoTunnel(Spelling),
    /// Another kind of tunnel has it.
    #[error("{option} is not for {tunnel} tunnels")]
    NotForTunnel {
        /// The option.
        option: Spelling,
        /// ipip, gue or gre.
        tunnel: &'static str,
    },
    /// GUE needs to know where.
    #[error("a gue tunnel needs --tun-port")]
    TunnelPort,
    /// Parts of a service that contradict each other.
    #[error(transparent)]
    Service(#[from] ServiceRule),
    /// Parts of a server that contradict each other or its service.
    #[error(transparent)]
    Server(#[from] ServerRule),
}

impl Refused {
    pub(super) fn unknown(word: &str) -> Self {
        Self::Unknown(InvalidValue::new(
            word,
            "there is no such option, and none is abbreviated",
        ))
    }

    pub(super) fn word(word: &str) -> Self {
        Self::Word(InvalidValue::new(
            word,
            "it is no option and no option takes it as a value",
        ))
    }

    pub(super) fn missing_value(row: &Row) -> Self {
        Self::MissingValue(row.into())
    }

    pub(super) fn unwanted_value(row: &Row) -> Self {
        Self::UnwantedValue(row.into())
    }

    /// A value, with its option's name.
    pub(super) fn value(
        row: &Row,
        text: &str,
        rule: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self::Value(InvalidValue::new(text, rule).in_field(row.name()))
    }

    pub(super) fn repeated(first: &Row, second: &Row) -> Self {
        Self::Repeated {
            first: first.into(),
            second: second.into(),
        }
    }

    pub(super) fn not_for(option: &Row, command: &Row) -> Self {
        match option.key {
            Key::Verb(_) => Self::SecondCommand(option.into()),
            _ => Self::NotFor {
                option: option.into(),
                command: command.into(),
            },
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::new(Kind::Invalid, refused.to_string())
    }
}
