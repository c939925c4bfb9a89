//! A refused value, before and after the border knows which field it came from.

use std::borrow::Cow;

use crate::failure::{Failure, Kind};

/// A value that a constructor refused: what it was and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is not allowed: {rule}")]
pub struct InvalidValue {
    value: String,
    rule: Cow<'static, str>,
}

/// Longest piece of a refused value that is repeated in a message, in characters.
const SHOWN: usize = 64;

impl InvalidValue {
    /// Keeps a bounded, escaped copy of `value`: it comes from outside and goes to a terminal.
    pub fn new(value: &str, rule: impl Into<Cow<'static, str>>) -> Self {
        let mut shown: String = value.escape_debug().take(SHOWN).collect();
        if value.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Self {
            value: shown,
            rule: rule.into(),
        }
    }

    /// Says which field of the input held the value.
    #[must_use]
    pub fn in_field(self, field: impl Into<String>) -> FieldError {
        FieldError {
            field: field.into(),
            source: self,
        }
    }
}

/// A refused field of an input: its path, its value and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {source}")]
pub struct FieldError {
    field: String,
    source: InvalidValue,
}

impl FieldError {
    /// Path of the field in the input, as the user spells it (`IPAddresses[1].mask`).
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Says in which part of the input the field is: `[3]`, then `[3].gateway`.
    #[must_use]
    pub fn nested_in(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

impl From<FieldError> for Failure {
    fn from(invalid: FieldError) -> Self {
        Failure::new(Kind::Invalid, invalid.to_string()).with_field(invalid.field)
    }
}
