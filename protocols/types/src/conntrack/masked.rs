//! Addresses of which some bits count.

use std::net::IpAddr;

use super::NoFilter;
use crate::InvalidValue;
use crate::ipvs::Family;

/// Address and mask of one family. The mask need not be contiguous.
///
/// ```
/// use patchbay_types::conntrack::Masked;
///
/// let net = Masked::prefix("10.0.0.9".parse()?, 8)?;
/// assert!(net.contains("10.1.2.3".parse()?));
/// assert!(Masked::new("2001:db8::9".parse()?, "255.255.255.0".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked {
    address: IpAddr,
    mask: IpAddr,
}

/// Bits of an address; the family decides how many of them there are.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Returns the mask with this number of leading ones; `None` if the address has fewer bits.
fn mask(family: Family, prefix: u8) -> Option<IpAddr> {
    let zeros = |bits: u32| bits.checked_sub(prefix.into());
    Some(match family {
        Family::V4 => IpAddr::V4(u32::MAX.checked_shl(zeros(32)?).unwrap_or(0).into()),
        Family::V6 => IpAddr::V6(u128::MAX.checked_shl(zeros(128)?).unwrap_or(0).into()),
    })
}

impl Masked {
    /// Checks that both are of one family, and drops the bits outside of the mask.
    ///
    /// # Errors
    /// An address and a mask of different families.
    pub fn new(address: IpAddr, mask: IpAddr) -> Result<Self, NoFilter> {
        let address = match (address, mask) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => IpAddr::V4(address & mask),
            (IpAddr::V6(address), IpAddr::V6(mask)) => IpAddr::V6(address & mask),
            _ => return Err(NoFilter::Families),
        };
        Ok(Self { address, mask })
    }

    /// Returns the network of an address.
    ///
    /// # Errors
    /// A prefix that is longer than the address.
    pub fn prefix(address: IpAddr, prefix: u8) -> Result<Self, InvalidValue> {
        mask(Family::of(address), prefix)
            .and_then(|mask| Self::new(address, mask).ok())
            .ok_or_else(|| {
                let rule = "a prefix has at most 32 (IPv4) or 128 (IPv6) bits";
                InvalidValue::new(&prefix, rule)
            })
    }

    /// Returns a single address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let mask = match address {
            IpAddr::V4(_) => IpAddr::V4(u32::MAX.into()),
            IpAddr::V6(_) => IpAddr::V6(u128::MAX.into()),
        };
        Self { address, mask }
    }

    /// Returns the address, without the bits outside of the mask.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the mask.
    #[must_use]
    pub fn mask(&self) -> IpAddr {
        self.mask
    }

    /// Returns the number of leading ones of the mask; `None` if it has others.
    #[must_use]
    pub fn prefix_len(&self) -> Option<u8> {
        let ones = match self.mask {
            IpAddr::V4(v4) => v4.to_bits().leading_ones(),
            IpAddr::V6(v6) => v6.to_bits().leading_ones(),
        };
        let prefix = u8::try_from(ones).ok()?;
        let contiguous = mask(Family::of(self.address), prefix)? == self.mask;
        contiguous.then_some(prefix)
    }

    /// Returns whether the bits of an address that count are equal.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        Family::of(ip) == Family::of(self.address)
            && bits(ip) & bits(self.mask) == bits(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn masked_of_two_families_is_refused() {
        for (address, mask) in [
            ("2001:db8::9", "255.255.255.0"),
            ("10.0.0.9", "ffff:ff00::"),
            ("::ffff:10.0.0.9", "255.0.0.0"),
        ] {
            assert_eq!(Masked::new(ip(address), ip(mask)), Err(NoFilter::Families));
        }
    }

    #[test]
    fn prefix_covers_its_bits_only() {
        for (net, prefix, inside, outside) in [
            ("10.9.8.7", 8, "10.0.0.1", "11.0.0.1"),
            ("10.9.8.7", 0, "255.0.0.1", "::"),
            ("10.9.8.7", 32, "10.9.8.7", "10.9.8.6"),
            ("2001:db8::9", 32, "2001:db8:1::1", "2001:db9::9"),
            ("2001:db8::9", 0, "::", "0.0.0.0"),
            ("2001:db8::9", 128, "2001:db8::9", "2001:db8::8"),
        ] {
            let masked = Masked::prefix(ip(net), prefix).unwrap();
            assert_eq!(masked.prefix_len(), Some(prefix));
            assert!(masked.contains(ip(inside)) && !masked.contains(ip(outside)));
        }
        assert!(Masked::prefix(ip("10.0.0.1"), 33).is_err());
        assert!(Masked::prefix(ip("2001:db8::1"), 129).is_err());
    }

    #[test]
    fn masked_with_holes_has_no_prefix() {
        let masked = Masked::new(ip("10.1.2.3"), ip("255.0.255.0")).unwrap();
        assert_eq!(masked.prefix_len(), None);
        assert_eq!(masked.address(), ip("10.0.2.0"));
        assert!(masked.contains(ip("10.9.2.9")) && !masked.contains(ip("10.1.3.3")));
    }
}
