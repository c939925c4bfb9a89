//! MAC addresses of cards, and of the neighbors on their links.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

const RULE: &str =
    "a MAC address is six bytes in hex, as 02:42:ac:11:00:02, 02-42-ac-11-00-02 or 0242.ac11.0002";

/// A unicast, non-zero 48-bit MAC address (the kernel's `is_valid_ether_addr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Returns the six bytes in transmission order.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for MacAddr {
    type Error = InvalidValue;

    fn try_from(octets: [u8; 6]) -> Result<Self, InvalidValue> {
        let mac = Self(octets);
        if octets[0] & 1 == 1 {
            let rule = "a card needs a unicast address, and the lowest bit of the first byte marks multicast";
            return Err(InvalidValue::new(&mac, rule));
        }
        if octets == [0; 6] {
            let rule = "a card needs a non-zero MAC address";
            return Err(InvalidValue::new(&mac, rule));
        }
        Ok(mac)
    }
}

impl FromStr for MacAddr {
    type Err = InvalidValue;

    /// Reads the text as [`LinkLayerAddr`] does.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let LinkLayerAddr(octets) = text.parse()?;
        Self::try_from(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LinkLayerAddr(self.0).fmt(f)
    }
}

/// A 48-bit link-layer address, also of a group: a neighbor can be a cluster with a multicast address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkLayerAddr([u8; 6]);

impl LinkLayerAddr {
    /// Returns the six bytes in transmission order.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for LinkLayerAddr {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl FromStr for LinkLayerAddr {
    type Err = InvalidValue;

    /// Accepts any case, and `:`, `-` (between bytes) or `.` (between pairs of bytes).
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let bad = || InvalidValue::new(text, RULE);
        let (separator, width) = match text.as_bytes().get(2) {
            Some(b':') => (':', 2),
            Some(b'-') => ('-', 2),
            _ => ('.', 4),
        };
        let parts: Vec<&str> = text.split(separator).collect();
        // from_str_radix accepts a sign, so "+a" must be rejected before.
        let hex = |part: &&str| part.len() == width && part.bytes().all(|b| b.is_ascii_hexdigit());
        if parts.len() * width != 12 || !parts.iter().all(hex) {
            return Err(bad());
        }
        let digits = parts.concat();
        let mut octets = [0; 6];
        for (octet, at) in octets.iter_mut().zip((0..12).step_by(2)) {
            *octet = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for LinkLayerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.map(|octet| format!("{octet:02x}"));
        f.write_str(&parts.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mac_any_spelling_prints_lower_case_with_colons() {
        for text in ["02:42:20:6F:A3:69", "02-42-20-6f-a3-69", "0242.206F.a369"] {
            let mac: MacAddr = text.parse().unwrap();
            assert_eq!(mac.to_string(), "02:42:20:6f:a3:69", "{text}");
        }
    }

    #[test]
    fn mac_malformed_text_is_refused_with_rule() {
        let bad = [
            "",
            "02",
            "02:42:20:6f:a3",
            "02:42:20:6f:a3:69:00:01",
            "02:42:20:6f:a3:+9",
            "02:42:20:6f:a3-69",
            "2:42:20:6f:a3:69",
            "02:42:20:6f:a3:6g",
            "0242206fa369",
            "02:42:20:6f:a3:é",
            ".....",
            "0242.206f.a3.69",
            " 02:42:20:6f:a3:69",
        ];
        for text in bad {
            assert_eq!(
                text.parse::<MacAddr>(),
                Err(InvalidValue::new(text, RULE)),
                "{text}"
            );
        }
    }

    #[test]
    fn mac_multicast_or_zero_names_its_rule() {
        let multicast = "01:00:5e:00:00:01"
            .parse::<MacAddr>()
            .unwrap_err()
            .to_string();
        assert!(multicast.contains("unicast"), "{multicast}");
        let zero = "00:00:00:00:00:00"
            .parse::<MacAddr>()
            .unwrap_err()
            .to_string();
        assert!(zero.contains("non-zero"), "{zero}");
    }

    proptest! {
        #[test]
        fn mac_display_and_parse_round_trip(octets: [u8; 6]) {
            if let Ok(mac) = MacAddr::try_from(octets) {
                prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            }
        }

        #[test]
        fn mac_parse_never_panics(text in ".{0,20}") {
            let _ = text.parse::<MacAddr>();
        }
    }
}
