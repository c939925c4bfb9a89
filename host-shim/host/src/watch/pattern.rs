//! Patterns of link names.

use std::fmt;
use std::str::FromStr;

use patchbay_types::{InvalidValue, LinkName};

/// Maximum length of a name of a link, `IFNAMSIZ` without the final zero; a pattern can have `*` between any
/// two of its characters.
const MAX_LENGTH: usize = 32;

/// Pattern of link names, in which `*` matches any text and `?` any character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPattern(String);

impl FromStr for LinkPattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > MAX_LENGTH || text.contains(is_bad) {
            let rule = "it must be 1 to 32 characters of a link's name, or * and ?";
            return Err(InvalidValue::new(&text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LinkPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LinkPattern {
    /// Parses patterns with commas between them.
    ///
    /// # Errors
    /// The first that is invalid.
    pub(super) fn list(text: &str) -> Result<Vec<Self>, InvalidValue> {
        text.split(',')
            .map(|pattern| pattern.trim().parse())
            .collect()
    }

    /// Returns whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &LinkName) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Tries at most 2^15 positions: pattern and name are short.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for symbol in pattern {
        if *symbol == b'*' {
            let first = reached.iter().position(|is_reached| *is_reached);
            let first = first.unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for end in (0..name.len()).rev() {
                reached[end + 1] = reached[end] && (*symbol == b'?' || *symbol == name[end]);
            }
            reached[0] = false;
        }
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_whole_names() {
        for (pattern, name, is_match) in [
            ("net1", "net1", true),
            ("net1", "net10", false),
            ("net?", "net1", true),
            ("net?", "net", false),
            ("net*", "net", true),
            ("*", "x", true),
            ("*t*1", "net11", true),
            ("*t*1", "net12", false),
            ("**?", "a", true),
            ("a*b*a", "aba", true),
            ("a*b*a", "ab", false),
        ] {
            let parsed: LinkPattern = pattern.parse().unwrap();
            assert_eq!(
                parsed.matches(&name.parse().unwrap()),
                is_match,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn pattern_that_no_name_has_is_refused() {
        for text in ["", "a b", "a/b", &"x".repeat(33)] {
            let error = text.parse::<LinkPattern>().unwrap_err();
            assert!(error.to_string().contains("1 to 32 characters"), "{error}");
        }
    }
}
