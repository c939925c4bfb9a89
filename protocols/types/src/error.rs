//! Invalid values, and the fields that contain them.

use std::borrow::Cow;
use std::fmt::{self, Display};

use crate::failure::{Failure, Kind};

/// Invalid value with the rule that it violates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is not allowed: {rule}")]
pub struct InvalidValue {
    value: String,
    rule: Cow<'static, str>,
}

/// Maximum length of a value in a message, in characters.
const SHOWN: usize = 64;

impl InvalidValue {
    /// Keeps a bounded, escaped copy of `value`, which is untrusted and goes to a terminal.
    pub fn new(value: &(impl Display + ?Sized), rule: impl Into<Cow<'static, str>>) -> Self {
        Self {
            value: shown(&value.to_string()),
            rule: rule.into(),
        }
    }

    /// Shows another form of the value, such as the text that it was read from.
    #[must_use]
    pub fn shown_as(self, text: &str) -> Self {
        Self {
            value: shown(text),
            ..self
        }
    }

    /// Adds the field of the input.
    #[must_use]
    pub fn in_field(self, field: impl Into<String>) -> FieldError {
        FieldError {
            field: field.into(),
            fault: Fault::Invalid(self),
        }
    }
}

fn shown(value: &str) -> String {
    let mut shown: String = value.escape_debug().take(SHOWN).collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Fault of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Invalid(InvalidValue),
    /// With the rule that requires the field, if it is not always required.
    Missing(Option<&'static str>),
}

/// Invalid or missing field of an input: its path, and its value with the rule that it violates.
///
/// ```
/// use patchbay_types::Mtu;
///
/// let error = Mtu::try_from(10).unwrap_err().in_field("mtu").nested_in("[3]");
/// assert_eq!(error.field(), "[3].mtu");
/// assert!(error.to_string().starts_with("[3].mtu '10' is not allowed: "));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    field: String,
    fault: Fault,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, fault } = self;
        match fault {
            Fault::Invalid(value) => write!(f, "{field} {value}"),
            Fault::Missing(None) => write!(f, "missing field {field}"),
            Fault::Missing(Some(rule)) => write!(f, "missing field {field}: {rule}"),
        }
    }
}

impl std::error::Error for FieldError {}

impl FieldError {
    /// Returns the error of a field that is required and missing.
    #[must_use]
    pub fn missing(field: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            fault: Fault::Missing(None),
        }
    }

    /// The same for a field that is required in some inputs.
    #[must_use]
    pub fn missing_by_rule(field: impl Into<String>, rule: &'static str) -> Self {
        Self {
            field: field.into(),
            fault: Fault::Missing(Some(rule)),
        }
    }

    /// Returns the path of the field as the user spells it (`IPAddresses[1].mask`).
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Adds the part of the input that contains the field: `[3]` makes `gateway` `[3].gateway`.
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
