//! Spellings of an option, by which errors name it.

use std::fmt;

/// Spellings of an option. Displays as `-w/--weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling {
    /// Letters; messages and saved lines use the first.
    pub(crate) short: &'static str,
    /// Word without `--`.
    pub(crate) long: &'static str,
    /// Second word.
    pub(crate) alias: Option<&'static str>,
}

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(letter) = self.short.chars().next() {
            write!(f, "-{letter}/")?;
        }
        write!(f, "--{}", self.long)
    }
}

impl Spelling {
    /// Returns the spelling with another of its words.
    pub(crate) fn with(self, long: &'static str) -> Self {
        Self { long, ..self }
    }

    /// The shortest spelling, for saved lines.
    pub(crate) fn word(self) -> String {
        match self.short.chars().next() {
            Some(letter) => format!("-{letter}"),
            None => format!("--{}", self.long),
        }
    }
}
