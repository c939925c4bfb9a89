//! Bandwidth limits in the words of `tc`.

use std::fmt;
use std::str::FromStr;

use patchbay_types::InvalidValue;
use serde::{Deserialize, Serialize};

/// Longest time that a burst takes at its rate. The kernel counts a burst in 64 ns, with 32 bits.
const MAX_BURST_SECONDS: u64 = 60;

/// Bits per second: 64,000 to 34 billion, the most that `tc_ratespec` of `linux/pkt_sched.h` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct BitRate(u64);

impl BitRate {
    const RULE: &str = "a rate is a number of bit, kbit, mbit or gbit, from 64kbit to 34gbit";

    /// Returns the bits per second.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the bytes per second.
    pub(crate) fn bytes(self) -> u32 {
        u32::try_from(self.0 / 8).unwrap_or(u32::MAX)
    }
}

impl TryFrom<u64> for BitRate {
    type Error = InvalidValue;

    fn try_from(bits: u64) -> Result<Self, InvalidValue> {
        match bits {
            64_000..=34_000_000_000 => Ok(Self(bits)),
            _ => Err(InvalidValue::new(&bits, Self::RULE)),
        }
    }
}

impl From<BitRate> for u64 {
    fn from(rate: BitRate) -> Self {
        rate.0
    }
}

impl FromStr for BitRate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let units = [
            ("gbit", 1_000_000_000),
            ("mbit", 1_000_000),
            ("kbit", 1000),
            ("bit", 1),
        ];
        let bits = with_unit(text, &units).and_then(|bits| Self::try_from(bits).ok());
        bits.ok_or_else(|| InvalidValue::new(text, Self::RULE))
    }
}

/// Bytes that can be sent at once above the rate: 128 KiB to 64 MiB. A frame that the guest leaves to the
/// host to be split has up to 64 KiB, and one that exceeds the burst is never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Burst(u32);

impl Burst {
    const RULE: &str = "a burst is a number of b, kb or mb, from 128kb to 64mb";
    const MIN: Burst = Burst(128 << 10);
    const MAX: Burst = Burst(64 << 20);

    /// Returns the bytes.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// Returns the traffic of 20 ms, within the limits.
    fn of(rate: BitRate) -> Self {
        let bytes = Self(rate.bytes() / 50);
        bytes.clamp(Self::MIN, Self::MAX)
    }
}

impl TryFrom<u64> for Burst {
    type Error = InvalidValue;

    fn try_from(bytes: u64) -> Result<Self, InvalidValue> {
        u32::try_from(bytes)
            .ok()
            .map(Self)
            .filter(|burst| (Self::MIN..=Self::MAX).contains(burst))
            .ok_or_else(|| InvalidValue::new(&bytes, Self::RULE))
    }
}

impl From<Burst> for u64 {
    fn from(burst: Burst) -> Self {
        burst.0.into()
    }
}

impl FromStr for Burst {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let units = [("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)];
        let bytes = with_unit(text, &units).and_then(|bytes| Self::try_from(bytes).ok());
        bytes.ok_or_else(|| InvalidValue::new(text, Self::RULE))
    }
}

/// Parses a number with one of these units; one without a unit is in the last of them.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let unit = units.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?;
        Some((number, *factor))
    });
    let (number, factor) = unit.unwrap_or((&text, 1));
    // `parse` accepts a sign.
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    number.checked_mul(factor)
}

/// Limit of the traffic in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    rate: BitRate,
    burst: Burst,
}

impl RateLimit {
    /// Creates a limit. Without a burst it has that of 20 ms, and 128 KiB at least.
    ///
    /// # Errors
    /// A burst that takes more than a minute at this rate.
    pub fn new(rate: BitRate, burst: Option<Burst>) -> Result<Self, InvalidValue> {
        let burst = burst.unwrap_or(Burst::of(rate));
        if u64::from(burst.0) > u64::from(rate.bytes()) * MAX_BURST_SECONDS {
            let rule = format!(
                "at {rate} it takes longer than {MAX_BURST_SECONDS} seconds: give a smaller burst"
            );
            return Err(InvalidValue::new(&burst, rule));
        }
        Ok(Self { rate, burst })
    }

    /// Returns the rate.
    #[must_use]
    pub fn rate(self) -> BitRate {
        self.rate
    }

    /// Returns the burst.
    #[must_use]
    pub fn burst(self) -> Burst {
        self.burst
    }
}

/// Limit of a direction, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// As fast as the host can.
    #[default]
    None,
    /// At most this rate.
    Rate(RateLimit),
}

impl Limit {
    /// Returns the limit; `None` if there is none.
    #[must_use]
    pub fn rate(self) -> Option<RateLimit> {
        match self {
            Self::None => None,
            Self::Rate(limit) => Some(limit),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000_000_000 == 0 => write!(f, "{}gbit", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{}mbit", bits / 1_000_000),
            bits if bits % 1000 == 0 => write!(f, "{}kbit", bits / 1000),
            bits => write!(f, "{bits}bit"),
        }
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}mb", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}kb", bytes >> 10),
            bytes => write!(f, "{bytes}b"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_bursts_are_parsed_as_by_tc_within_their_ranges() {
        for (text, bits) in [
            ("10mbit", 10_000_000),
            ("1Gbit", 1_000_000_000),
            ("64kbit", 64_000),
            ("100001bit", 100_001),
            ("100000", 100_000),
        ] {
            let rate: BitRate = text.parse().unwrap();
            assert_eq!(rate.get(), bits, "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for text in [
            "",
            "mbit",
            "-1mbit",
            "+1mbit",
            "1.5mbit",
            "63kbit",
            "35gbit",
            "1tbit",
            "99999999999999999999gbit",
        ] {
            let error = text.parse::<BitRate>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not allowed: {}", BitRate::RULE));
        }
        for (text, bytes) in [("128kb", 131_072), ("1mb", 1 << 20), ("200000b", 200_000)] {
            let burst: Burst = text.parse().unwrap();
            assert_eq!(burst.get(), bytes, "{text}");
            assert_eq!(burst.to_string().parse(), Ok(burst));
        }
        for text in ["127kb", "65mb", "", "kb", "5gb"] {
            let error = text.parse::<Burst>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not allowed: {}", Burst::RULE));
        }
    }

    #[test]
    fn limit_has_a_default_burst_and_refuses_one_of_minutes() {
        let rate = |text: &str| text.parse::<BitRate>().unwrap();
        let burst = |text| {
            RateLimit::new(rate(text), None)
                .unwrap()
                .burst()
                .to_string()
        };
        assert_eq!(burst("64kbit"), "128kb");
        assert_eq!(burst("800mbit"), "2000000b");
        assert_eq!(burst("34gbit"), "64mb");
        let error = RateLimit::new(rate("64kbit"), "64mb".parse().ok()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("'64mb' is not allowed: at 64kbit"),
            "{error}"
        );
    }
}
