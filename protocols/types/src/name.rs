//! Names of network interfaces, on the host and in the guest.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

/// Maximum length of an interface's name in bytes: `IFNAMSIZ` without the NUL.
const MAX_LEN: usize = 15;

const RULE: &str = "an interface name has 1 to 15 characters: letters, digits, '_', '-' and '.', and starts with a letter";

/// Name of an interface by the rule of the user guide, which is stricter than the kernel's
/// `dev_valid_name` and always valid in a QEMU id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName(String);

impl IfName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if starts && text.len() <= MAX_LEN && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(text, RULE))
        }
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_guide_is_accepted() {
        for text in ["eth-test", "tap_test", "a", "eeeeeeeeeeeeeee", "eth0.100"] {
            assert_eq!(text.parse::<IfName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn name_invalid_is_refused_with_rule() {
        for text in [
            "",
            "0eth",
            "eeeeeeeeeeeeeeee",
            "tap:1",
            " eth0",
            "eth0 ",
            "-a",
            "..",
            "eth/0",
            "éth",
        ] {
            assert_eq!(
                text.parse::<IfName>(),
                Err(InvalidValue::new(text, RULE)),
                "{text}"
            );
        }
    }
}
