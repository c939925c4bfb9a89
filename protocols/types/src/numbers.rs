//! Numbers with a range: MTUs, queue pairs, and those of routes.

use std::fmt;
use std::num::NonZeroU16;

use super::InvalidValue;

/// MTU in bytes that virtio-net accepts and the user guide allows: 68 to 9600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u16);

impl Mtu {
    /// Minimum MTU for IPv6 (RFC 8200, section 5). Below it the kernel removes IPv6 from the
    /// interface.
    pub const IPV6_MIN: Mtu = Mtu(1280);

    /// Returns the MTU in bytes.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Mtu {
    type Error = InvalidValue;

    /// The guide has 46 to 9600, but virtio-net rejects values below `ETH_MIN_MTU` (68).
    fn try_from(bytes: u64) -> Result<Self, InvalidValue> {
        let refuse = |rule| InvalidValue::new(&bytes, rule);
        match u16::try_from(bytes) {
            Ok(fits @ 68..=9600) => Ok(Self(fits)),
            Ok(46..68) => Err(refuse(
                "the kernel's minimum for a virtio-net card is 68 bytes",
            )),
            _ => Err(refuse("an MTU is 68 to 9600 bytes")),
        }
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of receive and transmit queue pairs of a card: 1 to 256 (`MAX_TAP_QUEUES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePairs(NonZeroU16);

impl QueuePairs {
    /// A card without multi-queue.
    pub const ONE: QueuePairs = QueuePairs(NonZeroU16::MIN);

    /// Returns the number of pairs.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u64> for QueuePairs {
    type Error = InvalidValue;

    fn try_from(pairs: u64) -> Result<Self, InvalidValue> {
        u16::try_from(pairs)
            .ok()
            .filter(|pairs| *pairs <= 256)
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or_else(|| InvalidValue::new(&pairs, "a card has 1 to 256 queue pairs"))
    }
}

impl fmt::Display for QueuePairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Scope of a route (`RT_SCOPE_*`): 0 universe, 200 site, 253 link, 254 host. Numbers between are user
/// defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(u8);

impl Scope {
    /// Anywhere, as a rule through a gateway.
    pub const UNIVERSE: Scope = Scope(0);
    /// On the link.
    pub const LINK: Scope = Scope(253);

    /// Returns the number, 0 to 254.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for Scope {
    type Error = InvalidValue;

    /// Rejects 255 (`RT_SCOPE_NOWHERE`), which marks a destination that doesn't exist.
    fn try_from(number: u64) -> Result<Self, InvalidValue> {
        u8::try_from(number)
            .ok()
            .filter(|number| *number < 255)
            .map(Self)
            .ok_or_else(|| InvalidValue::new(&number, "a scope is 0 to 254"))
    }
}

/// MTU of a route in bytes (`RTAX_MTU`), 1 to 65520. The kernel reduces larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteMtu(u16);

impl RouteMtu {
    /// Returns the MTU in bytes.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for RouteMtu {
    type Error = InvalidValue;

    fn try_from(bytes: u64) -> Result<Self, InvalidValue> {
        match u16::try_from(bytes) {
            Ok(fits @ 1..=65520) => Ok(Self(fits)),
            _ => Err(InvalidValue::new(
                &bytes,
                "an mtu of a route is 1 to 65520 bytes",
            )),
        }
    }
}

/// Program that made a route (`RTPROT_*`), 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteProtocol(u8);

impl RouteProtocol {
    /// The kernel, from an address of the interface.
    pub const KERNEL: Self = Self(2);
    /// iproute2's and patchbay's default.
    pub const BOOT: Self = Self(3);

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Returns whether the kernel makes such routes by itself: from redirects (1), from addresses and from
    /// router advertisements (9).
    #[must_use]
    pub fn is_of_kernel(self) -> bool {
        matches!(self.0, 1 | 2 | 9)
    }
}

impl TryFrom<u64> for RouteProtocol {
    type Error = InvalidValue;

    fn try_from(number: u64) -> Result<Self, InvalidValue> {
        match u8::try_from(number) {
            Ok(fits @ 1..) => Ok(Self(fits)),
            _ => Err(InvalidValue::new(
                &number,
                "a protocol of a route is 1 to 255",
            )),
        }
    }
}

/// Routing table (`RT_TABLE_*`), 1 to 4294967295.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteTable(u32);

impl RouteTable {
    /// The table that packets use unless a rule directs them to another one.
    pub const MAIN: Self = Self(254);

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for RouteTable {
    type Error = InvalidValue;

    fn try_from(number: u64) -> Result<Self, InvalidValue> {
        match u32::try_from(number) {
            Ok(fits @ 1..) => Ok(Self(fits)),
            _ => Err(InvalidValue::new(&number, "a table is 1 to 4294967295")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtu_range_is_exact() {
        for bytes in [68, 1280, 1500, 9600] {
            assert_eq!(u64::from(Mtu::try_from(bytes).unwrap().get()), bytes);
        }
        for bytes in [46, 67] {
            let error = Mtu::try_from(bytes).unwrap_err().to_string();
            assert!(error.contains("kernel's minimum"), "{error}");
        }
        for bytes in [0, 45, 9601, 65_536 + 1500, u64::MAX] {
            let error = Mtu::try_from(bytes).unwrap_err().to_string();
            assert!(error.contains("68 to 9600"), "{error}");
        }
    }

    #[test]
    fn queue_pairs_range_is_exact() {
        for pairs in [1, 5, 256] {
            assert_eq!(u64::from(QueuePairs::try_from(pairs).unwrap().get()), pairs);
        }
        for pairs in [0, 257, 65_537, u64::MAX] {
            let error = QueuePairs::try_from(pairs).unwrap_err().to_string();
            assert!(error.contains("1 to 256"), "{error}");
        }
    }

    #[test]
    fn scope_out_of_range_is_rejected() {
        for number in [0, 200, 253, 254] {
            assert_eq!(u64::from(Scope::try_from(number).unwrap().get()), number);
        }
        for number in [255, 256, u64::MAX] {
            let error = Scope::try_from(number).unwrap_err().to_string();
            assert!(error.contains("0 to 254"), "{error}");
        }
    }

    #[test]
    fn route_numbers_have_exact_ranges() {
        let rejected = [
            RouteMtu::try_from(0).unwrap_err(),
            RouteMtu::try_from(65521).unwrap_err(),
            RouteProtocol::try_from(0).unwrap_err(),
            RouteProtocol::try_from(256).unwrap_err(),
            RouteTable::try_from(0).unwrap_err(),
            RouteTable::try_from(1 << 32).unwrap_err(),
        ];
        for error in rejected.map(|error| error.to_string()) {
            assert!(error.contains(" is 1 to "), "{error}");
        }
        assert_eq!(RouteMtu::try_from(65520).unwrap().get(), 65520);
        assert_eq!(RouteProtocol::try_from(255).unwrap().get(), 255);
        assert_eq!(
            RouteTable::try_from(u64::from(u32::MAX)).unwrap().get(),
            u32::MAX
        );
    }
}
