//! Ids of sandboxes and containers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use patchbay_types::InvalidValue;

/// Id of a sandbox or a container, or a prefix of one: 1 to 128 ASCII letters, digits, `_`, `.` and
/// `-`, of which the first is a letter or digit. It is safe as one component of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(String);

/// Quality of a match; a greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchKind {
    /// The given id is a proper prefix.
    Prefix,
    /// The ids are equal.
    Exact,
}

const MAX_ID_BYTES: usize = 128;
const RULE: &str =
    "an id has 1 to 128 letters, digits, '_', '.' and '-', and starts with a letter or digit";

impl SandboxId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns how well `wanted`, an id or a prefix, matches this id. `None` is the empty prefix.
    pub(super) fn matches(&self, wanted: Option<&Self>) -> Option<MatchKind> {
        let Some(wanted) = wanted else {
            return Some(MatchKind::Prefix);
        };
        match self.0.strip_prefix(wanted.as_str()) {
            Some("") => Some(MatchKind::Exact),
            Some(_) => Some(MatchKind::Prefix),
            None => None,
        }
    }
}

impl FromStr for SandboxId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if starts_well && text.len() <= MAX_ID_BYTES && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidValue::new(text, RULE))
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sandbox that matches.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) kind: MatchKind,
    pub(super) id: SandboxId,
    /// Folder in which it was found.
    pub(super) folder: PathBuf,
    pub(super) origin: Origin,
}

/// Program that describes a sandbox.
#[derive(Debug)]
pub(super) enum Origin {
    /// Any, in the run directory.
    Registered,
    /// Kata.
    Kata(KataRuntime),
    /// libvirt, with the status file of the domain.
    Libvirt(PathBuf),
}

/// Runtime of a sandbox, with the folders that it has besides the sandbox's own.
#[derive(Debug)]
pub(super) enum KataRuntime {
    /// With the folder of the machine.
    Go(PathBuf),
    /// With the sandbox's bundles.
    Rust(Vec<PathBuf>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_breaking_the_rule_is_rejected() {
        let long = "a".repeat(MAX_ID_BYTES + 1);
        for text in [
            "", ".", "..", "../a", "a/b", "-a", "_a", "a b", "a\n", "a\0", "ä", &long,
        ] {
            let parsed = text.parse::<SandboxId>();
            assert_eq!(parsed, Err(InvalidValue::new(text, RULE)), "{text}");
        }
        for text in ["a", "0", "A_b.c-d", &long[1..]] {
            assert_eq!(text.parse::<SandboxId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn exact_match_beats_prefix() {
        let id = |text: &str| text.parse::<SandboxId>().unwrap();
        assert_eq!(id("abc").matches(Some(&id("abc"))), Some(MatchKind::Exact));
        assert_eq!(id("abc").matches(Some(&id("a"))), Some(MatchKind::Prefix));
        assert_eq!(id("abc").matches(None), Some(MatchKind::Prefix));
        assert_eq!(id("abc").matches(Some(&id("abcd"))), None);
        assert!(MatchKind::Exact > MatchKind::Prefix);
    }
}
