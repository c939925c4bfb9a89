//! Numbers, addresses and ports as the C library reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names that a host's files know. Never asks a network: that can hang.
pub trait Resolver {
    /// The IPv4 address of a host.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;
    /// The port of a service (`tcp`, `udp` or `sctp`).
    fn service(&self, name: &str, protocol: &str) -> Option<u16>;
}

/// A host where nothing has a name: words are numbers, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoNames;

impl Resolver for NoNames {
    fn host(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn service(&self, _: &str, _: &str) -> Option<u16> {
        None
    }
}

/// `strtol` in base 10, the whole text: blanks before, one sign, leading zeros.
pub(super) fn number(text: &str) -> Option<i64> {
    let blank = |b: char| matches!(b, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let digits = text.trim_start_matches(blank);
    let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More than 19 digits are out of every range that we have.
    digits.parse().ok()
}

/// A number in `low..=high`.
pub(super) fn within(text: &str, low: u32, high: u32) -> Option<u32> {
    let number = u32::try_from(number(text)?).ok()?;
    (low..=high).contains(&number).then_some(number)
}

/// `atoi`: as far as there are digits; 0 where there are none.
pub(super) fn atoi(text: &str) -> u32 {
    let text = text.trim_start_matches([' ', '\t']);
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.bytes().position(|b| !b.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().unwrap_or(0)
}

/// `inet_aton`: one to four parts, each decimal, octal (`0`) or hexadecimal (`0x`); the last fills
/// what is left.
#[must_use]
pub fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut value = 0u32;
    for part in first {
        value = value << 8 | u32::from(u8::try_from(part_of_address(part)?).ok()?);
    }
    let bits = 32 - 8 * u32::try_from(first.len()).ok()?;
    let last = part_of_address(last)?;
    if u64::from(last) >= 1u64 << bits {
        return None;
    }
    let high = if bits == 32 { 0 } else { value << bits };
    Some(Ipv4Addr::from(high | last))
}

fn part_of_address(part: &str) -> Option<u32> {
    if !part.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (digits, radix) = match part.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&part[2..], 16),
        [b'0', _, ..] => (&part[1..], 8),
        _ => (part, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// An address, and what stands behind it for a port.
pub(super) fn address<'a>(
    text: &'a str,
    names: &dyn Resolver,
) -> Option<(IpAddr, Option<&'a str>)> {
    // A bare number would be an address by inet_aton; it is more likely a forgotten word.
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, port) = rest.split_once("]:")?;
        let v6 = inside.parse::<Ipv6Addr>().map(IpAddr::V6).ok();
        // ipvsadm takes IPv4 in brackets too, and loses its port.
        let ip = v6.or_else(|| inet_aton(inside).map(IpAddr::V4))?;
        return Some((ip, Some(port)));
    }
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Some((v6.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    Some((host_address(host, names)?.into(), port))
}

/// `inet_aton`, or a name.
pub(super) fn host_address(text: &str, names: &dyn Resolver) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| names.host(text))
}

/// A port by number or, where the protocol is known by now, by name.
pub(super) fn port(text: &str, protocol: Option<&str>, names: &dyn Resolver) -> Option<u16> {
    match number(text) {
        Some(number) => u16::try_from(number).ok(),
        None => names.service(text, protocol?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strtols() {
        assert_eq!(number(" +007"), Some(7));
        assert_eq!(number("-1"), Some(-1));
        for text in [
            "",
            " ",
            "+",
            "--1",
            "1x",
            "0x10",
            "1.5",
            "99999999999999999999",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(within("-1", 0, 9), None);
        assert_eq!(within("10", 0, 9), None);
        assert_eq!(
            (atoi("64x"), atoi("abc"), atoi("-1"), atoi(" 7")),
            (64, 0, 0, 7)
        );
    }

    #[test]
    fn addresses_are_inet_atons() {
        let ip = |text| inet_aton(text).map(|ip| ip.to_string());
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.1", "10.0.0.1"),
            ("10.1.256", "10.1.1.0"),
            ("012.0.0.1", "10.0.0.1"),
            ("0x0a000001", "10.0.0.1"),
            ("24", "0.0.0.24"),
            ("0", "0.0.0.0"),
            ("4294967295", "255.255.255.255"),
        ] {
            assert_eq!(ip(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            ".",
            "10.",
            "256.0.0.1",
            "10.0.0.256",
            "1.2.3.4.5",
            "09.0.0.1",
            "4294967296",
            "10.0x.0.1",
            "1.+2.3.4",
            "0x+1",
            "a",
            "10.16777216",
            "10.0.0.1 ",
        ] {
            assert_eq!(ip(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_an_address_prints_it_reads(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            proptest::prop_assert_eq!(inet_aton(&ip.to_string()), Some(ip));
            proptest::prop_assert_eq!(inet_aton(&bits.to_string()), Some(ip));
            proptest::prop_assert_eq!(inet_aton(&format!("{bits:#x}")), Some(ip));
        }
    }
}
