//! Numbers, addresses and ports as the C library parses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Lookup of names in a host's files. Must not ask the network, which can hang.
pub trait Resolver: std::fmt::Debug {
    /// Returns the IPv4 address of a host.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;
    /// Returns the port of a service; `protocol` is `tcp`, `udp` or `sctp`.
    fn service(&self, name: &str, protocol: &str) -> Option<u16>;
    /// Returns the bit of a label of tracked flows.
    fn label(&self, _name: &str) -> Option<u8> {
        None
    }
}

/// Resolver without names: only numeric addresses and ports are accepted.
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

/// `strtol` in base 10 over the whole text: leading blanks, one sign, leading zeros.
fn signed(text: &str) -> Option<i64> {
    let blank = |b: char| matches!(b, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let digits = text.trim_start_matches(blank);
    let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // A number that overflows is outside every range here too.
    digits.parse().ok()
}

/// The same for numbers from 0 to 4294967295.
pub(crate) fn unsigned(text: &str) -> Option<u32> {
    u32::try_from(signed(text)?).ok()
}

/// `atoi`: the leading digits, or 0.
pub(crate) fn atoi(text: &str) -> u32 {
    let text = text.trim_start_matches([' ', '\t']);
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.bytes().position(|b| !b.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().unwrap_or(0)
}

/// `inet_aton`: one to four parts, each decimal, octal (`0`) or hexadecimal (`0x`); the last part
/// fills the remaining bytes.
#[must_use]
pub fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut value = 0u32;
    for part in first {
        value = value << 8 | u32::from(u8::try_from(base0(part)?).ok()?);
    }
    let bits = 32 - 8 * u32::try_from(first.len()).ok()?;
    let last = base0(last)?;
    if u64::from(last) >= 1u64 << bits {
        return None;
    }
    let high = if bits == 32 { 0 } else { value << bits };
    Some(Ipv4Addr::from(high | last))
}

/// `strtoul` in base 0: decimal, hexadecimal after `0x`, or octal after `0`.
pub(crate) fn base0(part: &str) -> Option<u32> {
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

/// An IPv6 address, or an IPv4 address by [`inet_aton`].
pub(crate) fn ip(text: &str) -> Option<IpAddr> {
    let v6 = text.parse().ok().map(IpAddr::V6);
    v6.or_else(|| inet_aton(text).map(IpAddr::V4))
}

/// [`inet_aton`], or the name of a host.
pub(crate) fn ipv4_or_name(text: &str, names: &dyn Resolver) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| names.host(text))
}

/// An address and optional port. The port is a number or, if the protocol is known, a name.
pub(crate) fn endpoint(
    text: &str,
    protocol: Option<&str>,
    names: &dyn Resolver,
) -> Option<(IpAddr, Option<u16>)> {
    let port = |text: &str| match signed(text) {
        Some(number) => u16::try_from(number).ok(),
        None => names.service(text, protocol?),
    };
    // inet_aton takes a bare number for an address; it is more likely a forgotten word.
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port_text) = rest.split_once("]:")?;
        // ipvsadm accepts IPv4 in brackets too, and loses its port.
        return Some((ip(address)?, Some(port(port_text)?)));
    }
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Some((v6.into(), None));
    }
    let Some((host, port_text)) = text.rsplit_once(':') else {
        return Some((ipv4_or_name(text, names)?.into(), None));
    };
    Some((ipv4_or_name(host, names)?.into(), Some(port(port_text)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_strtol() {
        assert_eq!(signed(" +007"), Some(7));
        assert_eq!(signed("-1"), Some(-1));
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
            assert_eq!(signed(text), None, "{text}");
        }
        assert_eq!(unsigned("-1"), None);
        assert_eq!(unsigned("4294967295"), Some(u32::MAX));
        assert_eq!(unsigned("4294967296"), None);
        assert_eq!(
            (atoi("64x"), atoi("abc"), atoi("-1"), atoi(" 7")),
            (64, 0, 0, 7)
        );
    }

    #[test]
    fn addresses_follow_inet_aton() {
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
        fn inet_aton_parses_printed_address(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            proptest::prop_assert_eq!(inet_aton(&ip.to_string()), Some(ip));
            proptest::prop_assert_eq!(inet_aton(&bits.to_string()), Some(ip));
            proptest::prop_assert_eq!(inet_aton(&format!("{bits:#x}")), Some(ip));
        }
    }
}
