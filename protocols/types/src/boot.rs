//! Boots of a guest.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

/// Length of a UUID's text.
const LEN: usize = 36;

/// Random id that a kernel has from its start on (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootId(String);

impl FromStr for BootId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let legal = |b: u8| b.is_ascii_hexdigit() || b == b'-';
        if text.len() == LEN && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(text, "a boot id is a UUID"))
        }
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_is_a_uuid() {
        let text = "0ab2e5f4-6d1c-4a0e-9c7b-1f2e3d4c5b6a";
        assert_eq!(text.parse::<BootId>().unwrap().to_string(), text);
        for text in ["", "0ab2", "0ab2e5f4-6d1c-4a0e-9c7b-1f2e3d4c5b6\n"] {
            assert!(text.parse::<BootId>().is_err(), "{text}");
        }
    }
}
