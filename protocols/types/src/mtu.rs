//! Maximum transmission units.

use std::fmt;

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
        let refuse = |rule| InvalidValue::new(&bytes.to_string(), rule);
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
}
