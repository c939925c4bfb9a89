//! Ids of sandboxes and containers.

use std::fmt;

use patchbay_types::InvalidValue;

/// An id, or the beginning of one. Ids become parts of paths, so this one can't lead anywhere else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// How well a name agrees with the one that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKind {
    /// It begins so.
    Prefix,
    /// It is the same.
    Exact,
}

const RULE: &str =
    "an id has 1 to 128 letters, digits, '_', '.' and '-', and starts with a letter or digit";

impl Id {
    /// # Errors
    /// Text that is no id.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts && text.len() <= 128 && text.bytes().all(legal) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidValue::new(text, RULE))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is meant when `wanted` is given.
    pub fn fit(&self, wanted: &Id) -> Option<MatchKind> {
        match self.0.strip_prefix(wanted.as_str()) {
            Some("") => Some(MatchKind::Exact),
            Some(_) => Some(MatchKind::Prefix),
            None => None,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lead_out_of_a_folder_is_refused() {
        let long = "a".repeat(129);
        for text in ["", ".", "..", "../a", "a/b", "-a", "a\0", "ä", &long] {
            assert_eq!(
                Id::parse(text),
                Err(InvalidValue::new(text, RULE)),
                "{text}"
            );
        }
    }

    #[test]
    fn the_whole_fits_better_than_a_prefix() {
        let id = |text: &str| Id::parse(text).unwrap();
        assert_eq!(id("abc").fit(&id("abc")), Some(MatchKind::Exact));
        assert_eq!(id("abc").fit(&id("a")), Some(MatchKind::Prefix));
        assert_eq!(id("abc").fit(&id("abcd")), None);
        assert!(MatchKind::Exact > MatchKind::Prefix);
    }
}
