//! Flags of `route add` and `route del`, and the names of `ip route` for numbers.

use std::net::{AddrParseError, IpAddr};

use patchbay_types::{InvalidValue, LinkName, RouteProtocol, Scope};

use super::parse_dest;

/// Names of `RT_SCOPE_*` in `ip route`.
pub(crate) const SCOPE_NAMES: &[(&str, u32)] =
    &[("global", 0), ("site", 200), ("link", 253), ("host", 254)];

/// Names of `RTPROT_*` in `ip route`.
pub(crate) const PROTOCOL_NAMES: &[(&str, u32)] = &[
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("ra", 9),
    ("dhcp", 16),
];

pub(super) fn dest(text: &str) -> Result<String, InvalidValue> {
    parse_dest(text).map(|(_, echo)| echo)
}

pub(super) fn address(text: &str) -> Result<String, AddrParseError> {
    text.parse().map(|address: IpAddr| address.to_string())
}

pub(super) fn device(text: &str) -> Result<String, InvalidValue> {
    text.parse().map(|name: LinkName| name.to_string())
}

pub(super) fn scope(text: &str) -> Result<u32, InvalidValue> {
    named::<Scope>(text, SCOPE_NAMES)
}

pub(super) fn protocol(text: &str) -> Result<u32, InvalidValue> {
    named::<RouteProtocol>(text, PROTOCOL_NAMES)
}

/// Parses a name of `ip route`, or a number.
fn named<T: TryFrom<u64, Error = InvalidValue>>(
    text: &str,
    names: &[(&str, u32)],
) -> Result<u32, InvalidValue> {
    let known = names.iter().find(|(name, _)| *name == text);
    known.map_or_else(|| number::<T>(text), |(_, number)| Ok(*number))
}

/// Returns the name of a number, as `ip route` prints it.
pub(crate) fn name_of(number: u64, names: &[(&'static str, u32)]) -> Option<&'static str> {
    let known = names
        .iter()
        .find(|(_, of_name)| u64::from(*of_name) == number);
    known.map(|(name, _)| *name)
}

pub(super) fn number<T: TryFrom<u64, Error = InvalidValue>>(
    text: &str,
) -> Result<u32, InvalidValue> {
    // A number that no field has names the range of the field.
    let number = text.parse::<u32>().map_or(u64::MAX, u64::from);
    let valid = T::try_from(number).map(|_| number);
    let valid = valid.map_err(|invalid| invalid.shown_as(text))?;
    u32::try_from(valid).map_err(|_| InvalidValue::new(text, "it must be a number"))
}
