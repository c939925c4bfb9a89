//! Rule files: one command line of ipvsadm per line, without the program's name.

use super::{Grammar, IpvsCommand, parse};
use crate::ParseError;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::RuleLine;

/// Reason for refusing a rule file. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFileError {
    /// A line breaks the grammar.
    #[error("line {number}: {error}")]
    Line {
        /// Line.
        number: u32,
        /// Reason.
        error: ParseError,
    },
    /// A file without any rule, but with `-L` or `-S`.
    #[error("line {number}: -L and -S change nothing, and the rule file has no effective rule")]
    OnlyLists {
        /// First of these lines.
        number: u32,
    },
    /// A command that changes nothing.
    #[error("line {number}: -R, -h and -v are not allowed in a rule file")]
    NotAChange {
        /// Line.
        number: u32,
    },
    /// The number of a line does not fit in 32 bits.
    #[error("the rule file has more than 4294967295 lines")]
    TooLong,
}

impl From<RuleFileError> for Failure {
    fn from(error: RuleFileError) -> Self {
        Failure::new(Kind::Invalid, error.to_string())
    }
}

/// Separators of words. ipvsadm knows neither others nor quotes in a rule file.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// Parses a whole rule file, or nothing of it. Ignores blank lines and comments, and `-L` and `-S` unless there is
/// nothing else, or the file would clear the table. A NUL ends a word.
///
/// # Errors
/// The first bad line.
pub fn read_rules(grammar: &Grammar<'_>, text: &str) -> Result<Vec<RuleLine>, RuleFileError> {
    let mut lines = Vec::new();
    let mut first_list = None;
    for (index, line) in text.split('\n').enumerate() {
        let number = u32::try_from(index + 1).map_err(|_| RuleFileError::TooLong)?;
        let words: Vec<&str> = line
            .split(BLANKS)
            .map(|word| word.split('\0').next().unwrap_or_default())
            // ipvsadm drops the program's name wherever it occurs.
            .filter(|word| !word.is_empty() && *word != "ipvsadm")
            .collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let command = parse(grammar, &words);
        match command.map_err(|error| RuleFileError::Line { number, error })? {
            IpvsCommand::Restore | IpvsCommand::Help | IpvsCommand::Version => {
                return Err(RuleFileError::NotAChange { number });
            }
            IpvsCommand::Change(change) => lines.push(RuleLine { number, change }),
            IpvsCommand::View(_) => first_list = first_list.or(Some(number)),
        }
    }
    match first_list {
        Some(number) if lines.is_empty() => Err(RuleFileError::OnlyLists { number }),
        _ => Ok(lines),
    }
}
