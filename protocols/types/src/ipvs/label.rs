//! Short names that the kernel looks up: schedulers, persistence engines, interfaces.

use std::fmt;
use std::str::FromStr;

use crate::InvalidValue;

/// Name of 1 to `MAX` bytes of printable ASCII without blanks. Stored inline, because a rule file
/// has thousands.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortName<const MAX: usize> {
    length: u8,
    bytes: [u8; MAX],
}

/// Name of a scheduler (`IP_VS_SCHEDNAME_MAXLEN` without the NUL).
pub type Scheduler = ShortName<15>;
/// Name of a persistence engine (`IP_VS_PENAME_MAXLEN`).
pub type Engine = ShortName<16>;
/// Name of the interface of a sync daemon (`IP_VS_IFNAME_MAXLEN` without the NUL).
pub type SyncLink = ShortName<15>;

impl<const MAX: usize> ShortName<MAX> {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// Keeps the first `MAX` bytes, as ipvsadm does with all three.
    ///
    /// # Errors
    /// Empty text, or text with characters other than printable ASCII.
    pub fn cut(text: &str) -> Result<Self, InvalidValue> {
        text.get(..MAX).unwrap_or(text).parse()
    }
}

impl<const MAX: usize> FromStr for ShortName<MAX> {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let length = u8::try_from(text.len()).ok().filter(|length| *length > 0);
        let printable = text.len() <= MAX && text.bytes().all(|b| b.is_ascii_graphic());
        let (Some(length), true) = (length, printable) else {
            let rule = format!("a name has 1 to {MAX} printable characters");
            return Err(InvalidValue::new(text, rule));
        };
        let mut bytes = [0; MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { length, bytes })
    }
}

impl<const MAX: usize> fmt::Display for ShortName<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const MAX: usize> fmt::Debug for ShortName<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_too_long_is_cut_and_invalid_refused() {
        let cut = Scheduler::cut("abcdefghijklmnopqrstuvwxyz").unwrap();
        assert_eq!(cut.as_str(), "abcdefghijklmno");
        for text in ["", "a b", "\u{e9}", "a\n", "abcdefghijklmnop"] {
            let bad = text.parse::<Scheduler>().unwrap_err();
            assert!(bad.to_string().contains("1 to 15 printable"), "{bad}");
        }
    }
}
