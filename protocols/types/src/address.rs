//! Addresses of interfaces.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::InvalidValue;

/// Addresses in the description of an interface, of which there can be thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressDetail {
    /// All.
    Listed,
    /// None.
    Omitted,
}

/// Address of an interface with its prefix length; host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress(IpNet);

impl InterfaceAddress {
    /// Checks an address and its prefix length.
    ///
    /// # Errors
    /// The unspecified address, multicast, the limited broadcast, an IPv4-mapped IPv6 address, and
    /// a prefix over 32 (IPv4) or 128 (IPv6) bits.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, InvalidValue> {
        let refuse = |rule| Err(InvalidValue::new(&format!("{address}/{prefix}"), rule));
        let (mapped, broadcast) = match address {
            IpAddr::V4(v4) => (false, v4.is_broadcast()),
            IpAddr::V6(v6) => (v6.to_ipv4_mapped().is_some(), false),
        };
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return refuse("an interface needs a unicast address");
        }
        if mapped {
            return refuse("an IPv4-mapped address can't be given to an interface");
        }
        match IpNet::new(address, prefix) {
            Ok(net) => Ok(Self(net)),
            Err(_) if address.is_ipv4() => refuse("an IPv4 prefix has at most 32 bits"),
            Err(_) => refuse("an IPv6 prefix has at most 128 bits"),
        }
    }

    /// Returns the address with its host bits.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.addr()
    }

    /// Returns the prefix length in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.0.prefix_len()
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(address: &str, prefix: u8) -> Result<InterfaceAddress, String> {
        InterfaceAddress::new(address.parse().unwrap(), prefix).map_err(|e| e.to_string())
    }

    #[test]
    fn address_keeps_host_bits() {
        assert_eq!(new("172.16.0.3", 16).unwrap().to_string(), "172.16.0.3/16");
        assert_eq!(new("fd00::3", 64).unwrap().to_string(), "fd00::3/64");
    }

    #[test]
    fn address_invalid_names_its_rule() {
        for (address, prefix, rule) in [
            ("10.0.0.1", 33, "at most 32 bits"),
            ("fd00::1", 129, "at most 128 bits"),
            ("0.0.0.0", 8, "unicast"),
            ("::", 64, "unicast"),
            ("224.0.0.1", 24, "unicast"),
            ("ff02::1", 64, "unicast"),
            ("255.255.255.255", 32, "unicast"),
            ("::ffff:10.0.0.1", 96, "IPv4-mapped"),
        ] {
            let error = new(address, prefix).unwrap_err();
            assert!(error.contains(rule), "{address}/{prefix}: {error}");
        }
    }
}
