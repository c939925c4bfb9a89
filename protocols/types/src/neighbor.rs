//! Static entries of the neighbor tables (ARP and NDP), and patterns that select them.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use super::{FieldError, InvalidValue, LinkLayerAddr, LinkName};

/// Maximum number of neighbors in one message.
pub const MAX_NEIGHBORS: usize = 4096;

/// Maximum number of neighbors of a card.
pub const MAX_CARD_NEIGHBORS: usize = 128;

/// Address of a neighbor: unicast, and not the unspecified one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighborAddress(IpAddr);

impl NeighborAddress {
    /// Returns the address.
    #[must_use]
    pub fn get(self) -> IpAddr {
        self.0
    }
}

impl TryFrom<IpAddr> for NeighborAddress {
    type Error = InvalidValue;

    fn try_from(ip: IpAddr) -> Result<Self, InvalidValue> {
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(InvalidValue::new(&ip, "a neighbor needs a unicast address"));
        }
        Ok(Self(ip))
    }
}

impl fmt::Display for NeighborAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Static entry (`NUD_PERMANENT`). The entries of one card need no device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Neighbor<Device = LinkName> {
    /// Address of the network layer.
    pub ip: NeighborAddress,
    /// Address of the link layer.
    pub lladdr: LinkLayerAddr,
    /// Interface in the guest.
    pub device: Device,
}

/// Pattern that matches the entries which have all of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborPattern {
    /// Address of the network layer.
    pub ip: NeighborAddress,
    /// Address of the link layer.
    pub lladdr: Option<LinkLayerAddr>,
    /// Interface in the guest.
    pub device: Option<LinkName>,
}

impl NeighborPattern {
    /// Returns whether the neighbor has every field of the pattern.
    #[must_use]
    pub fn matches(&self, neighbor: &Neighbor) -> bool {
        self.ip == neighbor.ip
            && self.lladdr.is_none_or(|lladdr| lladdr == neighbor.lladdr)
            && self
                .device
                .as_ref()
                .is_none_or(|device| *device == neighbor.device)
    }
}

/// Checks the neighbors of a card or a request against each other.
///
/// # Errors
/// More than `max`, or an address that an interface has twice. `field` is the name of the list.
pub fn check_neighbors<Device: Hash + Eq>(
    neighbors: &[Neighbor<Device>],
    max: usize,
    field: &str,
) -> Result<(), FieldError> {
    if neighbors.len() > max {
        let rule = format!("at most {max} are accepted");
        let count = format!("{} neighbors", neighbors.len());
        return Err(InvalidValue::new(&count, rule).in_field(field));
    }
    let mut seen = HashSet::new();
    for (index, Neighbor { ip, device, .. }) in neighbors.iter().enumerate() {
        if !seen.insert((ip, device)) {
            let invalid = InvalidValue::new(ip, "the same neighbor is given twice");
            return Err(invalid.in_field(format!("{field}[{index}]")));
        }
    }
    Ok(())
}

/// The words of iproute2.
impl fmt::Display for Neighbor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ip, lladdr, device } = self;
        write!(f, "{ip} lladdr {lladdr} dev {device}")
    }
}

impl fmt::Display for NeighborPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        if let Some(lladdr) = self.lladdr {
            write!(f, " lladdr {lladdr}")?;
        }
        match &self.device {
            Some(device) => write!(f, " dev {device}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbor(ip: &str, device: &str) -> Neighbor {
        Neighbor {
            ip: ip.parse::<IpAddr>().unwrap().try_into().unwrap(),
            lladdr: "02:00:00:00:00:01".parse().unwrap(),
            device: device.parse().unwrap(),
        }
    }

    #[test]
    fn address_that_no_neighbor_has_is_refused() {
        for ip in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let ip: IpAddr = ip.parse().unwrap();
            let error = NeighborAddress::try_from(ip).unwrap_err();
            assert!(error.to_string().contains("unicast"), "{error}");
        }
    }

    #[test]
    fn repeated_or_too_many_neighbors_are_refused() {
        let list = ["eth1", "eth2", "eth1"].map(|device| neighbor("fe80::1", device));
        assert!(check_neighbors(&list[..2], 2, "neighbors").is_ok());
        let error = check_neighbors(&list, 3, "neighbors").unwrap_err();
        assert_eq!(error.field(), "neighbors[2]");
        let error = check_neighbors(&list, 2, "neighbors").unwrap_err();
        assert_eq!(error.field(), "neighbors");
    }

    #[test]
    fn pattern_matches_only_its_own_fields() {
        let entry = neighbor("10.0.0.9", "eth1");
        let pattern = NeighborPattern {
            ip: entry.ip,
            lladdr: None,
            device: None,
        };
        assert!(pattern.matches(&entry));
        let device = "eth2".parse().ok();
        assert!(
            !NeighborPattern {
                device,
                ..pattern.clone()
            }
            .matches(&entry)
        );
        let lladdr = "03:00:00:00:00:01".parse().ok();
        assert!(!NeighborPattern { lladdr, ..pattern }.matches(&entry));
    }
}
