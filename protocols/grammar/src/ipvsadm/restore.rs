//! The reader of rule files: one command a line, in the words of ipvsadm without its name.

use super::{Command, Grammar, Refused, parse};
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::ipvs::Change;
use patchbay_types::ipvs::Line;

/// A line that a rule file may not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It breaks the grammar.
    #[error("line {number}: {refused}")]
    Refused {
        /// Counted from 1.
        number: u32,
        /// Why.
        refused: Refused,
    },
    /// It asks for something that can't be undone, or is no rule.
    #[error("line {number}: only changes of services, servers and timeouts belong in a rule file")]
    NoRule {
        /// Counted from 1.
        number: u32,
    },
    /// There are more lines than can be counted.
    #[error("the rule file has more than 4294967295 lines")]
    TooLong,
}

impl From<BadLine> for Failure {
    fn from(bad: BadLine) -> Self {
        Failure::new(Kind::Invalid, bad.to_string())
    }
}

/// What separates words. ipvsadm's reader knows no other.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// Reads a whole file, and nothing of it if one line is bad. Blank lines and comments are passed
/// over; `-L` and `-S` change nothing and are passed over too. A NUL ends a word.
///
/// # Errors
/// The first bad line.
pub fn read_rules(grammar: &Grammar<'_>, text: &str) -> Result<Vec<Line>, BadLine> {
    let mut lines = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let number = u32::try_from(index + 1).map_err(|_| BadLine::TooLong)?;
        let words: Vec<&str> = line
            .split(BLANKS)
            .map(|word| word.split('\0').next().unwrap_or_default())
            // A file may repeat the program's name; ipvsadm drops it wherever it stands.
            .filter(|word| !word.is_empty() && *word != "ipvsadm")
            .collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let refused = |refused| BadLine::Refused { number, refused };
        match parse(grammar, &words).map_err(refused)? {
            Command::Change(Change::StartDaemon(_) | Change::StopDaemon(_))
            | Command::Restore
            | Command::Help
            | Command::Version => return Err(BadLine::NoRule { number }),
            Command::Change(change) => lines.push(Line { number, change }),
            Command::View(_) => {}
        }
    }
    Ok(lines)
}
