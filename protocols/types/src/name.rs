//! Names of network interfaces, on the host and in the guest.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

/// Maximum length of an interface's name in bytes: `IFNAMSIZ` without the NUL.
const MAX_LEN: usize = 15;

const RULE: &str = "an interface name has 1 to 15 characters: letters, digits, '_', '-' and '.', and starts with a letter";

/// Names that the kernel refuses: `all` and `default` are entries of `/proc/sys/net/ipv4/conf` beside
/// those of links, and `bonding_masters` is a file in `/sys/class/net` once bonding is loaded.
const RESERVED: [&str; 3] = ["all", "default", "bonding_masters"];

const RESERVED_RULE: &str = "the kernel reserves the names all, default and bonding_masters";

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
        if !starts || text.len() > MAX_LEN || !text.bytes().all(legal) {
            return Err(InvalidValue::new(text, RULE));
        }
        if RESERVED.contains(&text) {
            return Err(InvalidValue::new(text, RESERVED_RULE));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LINK_RULE: &str = "an interface name has 1 to 15 bytes, no blank, '/' or ':', and is none of '.', '..', 'all' \
                         and 'default'";

/// Name of a link that exists, by the kernel's rule (`dev_valid_name`).
///
/// Its text has bytes that aren't UTF-8 as `\xff`, and the backslash of a name that contains `\x` as
/// `\x5c`, so that different names have different texts.
///
/// ```
/// use patchbay_types::LinkName;
///
/// let name = LinkName::try_from(&b"eth\xff"[..])?;
/// assert_eq!(name.to_string(), r"eth\xff");
/// assert_eq!(r"eth\xff".parse(), Ok(name));
/// assert!("wg=0".parse::<LinkName>().is_ok());
/// # Ok::<(), patchbay_types::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName(Box<[u8]>);

impl LinkName {
    /// Returns the bytes of the kernel's name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name if it also follows the rule for new names.
    #[must_use]
    pub fn to_new(&self) -> Option<IfName> {
        self.to_string().parse().ok()
    }
}

impl TryFrom<&[u8]> for LinkName {
    type Error = InvalidValue;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidValue> {
        let name = Self(bytes.into());
        // 0xa0 is a blank in the kernel's character table.
        let illegal = |b: &u8| matches!(b, 0 | b'/' | b':' | b' ' | b'\t'..=b'\r' | 0xa0);
        let reserved: [&[u8]; 4] = [b".", b"..", b"all", b"default"];
        if (1..=MAX_LEN).contains(&bytes.len())
            && !bytes.iter().any(illegal)
            && !reserved.contains(&bytes)
        {
            Ok(name)
        } else {
            Err(InvalidValue::new(&name, LINK_RULE))
        }
    }
}

impl FromStr for LinkName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            let escaped = escaped_byte(rest);
            bytes.push(escaped.unwrap_or(*first));
            rest = if escaped.is_some() {
                &rest[ESCAPE_LEN..]
            } else {
                after
            };
        }
        Self::try_from(&bytes[..]).map_err(|_| InvalidValue::new(text, LINK_RULE))
    }
}

/// Length of `\xff`.
const ESCAPE_LEN: usize = 4;

/// Decodes the escape at the front: of a backslash, or of a byte that can be invalid UTF-8.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(br"\x")?.get(..2)?;
    let lower_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let digits = digits.iter().all(lower_hex).then_some(digits)?;
    let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (byte == b'\\' || !byte.is_ascii()).then_some(byte)
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(&chunk.valid().replace(r"\x", r"\x5cx"))?;
            for byte in chunk.invalid() {
                write!(f, r"\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl From<&IfName> for LinkName {
    fn from(name: &IfName) -> Self {
        Self(name.as_str().as_bytes().into())
    }
}

impl PartialEq<IfName> for LinkName {
    fn eq(&self, name: &IfName) -> bool {
        *self.0 == *name.as_str().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn name_of_guide_is_accepted() {
        for text in ["eth-test", "tap_test", "a", "eeeeeeeeeeeeeee", "eth0.100"] {
            assert_eq!(text.parse::<IfName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn name_that_the_kernel_reserves_is_refused() {
        for text in RESERVED {
            let refused = Err(InvalidValue::new(text, RESERVED_RULE));
            assert_eq!(text.parse::<IfName>(), refused);
        }
        assert!("All".parse::<IfName>().is_ok());
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

    #[test]
    fn link_name_of_kernel_is_accepted() {
        for text in [
            "wg=0",
            "0eth",
            "-a",
            "a\"b",
            "é",
            "veth@x",
            "...",
            "a%d",
            "eth\u{1b}",
        ] {
            assert_eq!(
                text.parse::<LinkName>().unwrap().as_bytes(),
                text.as_bytes()
            );
        }
        for text in [
            "",
            ".",
            "..",
            "a b",
            "a\tb",
            "a:1",
            "a/b",
            "à",
            "eeeeeeeeeeeeeeee",
            "a\0",
        ] {
            let error = text.parse::<LinkName>().unwrap_err();
            assert_eq!(error, InvalidValue::new(text, LINK_RULE), "{text}");
        }
    }

    #[test]
    fn link_name_escapes_are_unique() {
        for (bytes, text) in [
            (&b"eth\xff"[..], r"eth\xff"),
            (br"eth\xff", r"eth\x5cxff"),
            (br"\x", r"\x5cx"),
            (br"\\x5c", r"\\x5cx5c"),
            (br"a\b", r"a\b"),
            (b"\xc3", r"\xc3"),
        ] {
            let name = LinkName::try_from(bytes).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse(), Ok(name));
        }
    }

    proptest! {
        #[test]
        fn link_name_text_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..18)) {
            if let Ok(name) = LinkName::try_from(&bytes[..]) {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }

        #[test]
        fn link_name_bytes_round_trip(text in r"[\\x5cf0-9a-z]{1,18}") {
            if let Ok(name) = text.parse::<LinkName>() {
                prop_assert_eq!(LinkName::try_from(name.as_bytes()), Ok(name));
            }
        }
    }
}
