//! Static entries of the neighbor tables, and patterns of them.

use super::{check_count, ip, ip_bytes, unless_default};
use crate::proto::agent as wire;
use patchbay_types::{
    FieldError, InvalidValue, LinkLayerAddr, LinkName, MAX_NEIGHBORS, Neighbor, NeighborAddress,
    NeighborPattern, check_neighbors,
};

/// Name of the list in errors.
const FIELD: &str = "neighbors";

impl From<&Neighbor> for wire::Neighbor {
    fn from(neighbor: &Neighbor) -> Self {
        let Neighbor { ip, lladdr, device } = neighbor;
        Self {
            device: device.to_string(),
            ..of_card(&Neighbor {
                ip: *ip,
                lladdr: *lladdr,
                device: (),
            })
        }
    }
}

/// Converts an entry of a card that is being configured.
pub(super) fn of_card(neighbor: &Neighbor<()>) -> wire::Neighbor {
    wire::Neighbor {
        ip: ip_bytes(neighbor.ip.get()),
        lladdr: neighbor.lladdr.octets().to_vec(),
        ..wire::Neighbor::default()
    }
}

fn address(wire: &wire::Neighbor) -> Result<NeighborAddress, FieldError> {
    let address = ip(&wire.ip).and_then(NeighborAddress::try_from);
    address.map_err(|invalid| invalid.in_field("ip"))
}

fn lladdr(bytes: &[u8]) -> Result<LinkLayerAddr, FieldError> {
    let rule = "a link-layer address has 6 bytes";
    let length = || InvalidValue::new(&format!("{} bytes", bytes.len()), rule);
    let octets = <[u8; 6]>::try_from(bytes);
    octets
        .map(LinkLayerAddr::from)
        .map_err(|_| length().in_field("lladdr"))
}

fn device(text: &str) -> Result<LinkName, FieldError> {
    text.parse()
        .map_err(|invalid: InvalidValue| invalid.in_field("device"))
}

/// Converts each entry. Errors name its position.
fn each<T>(
    wire: &[wire::Neighbor],
    convert: impl Fn(&wire::Neighbor) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    check_count(wire.len(), FIELD)?;
    let at = |(index, entry)| {
        convert(entry).map_err(|invalid| invalid.nested_in(&format!("{FIELD}[{index}]")))
    };
    wire.iter().enumerate().map(at).collect()
}

/// Decodes the entries of a card.
pub(super) fn of_card_request(wire: &[wire::Neighbor]) -> Result<Vec<Neighbor<()>>, FieldError> {
    each(wire, |wire| {
        Ok(Neighbor {
            ip: address(wire)?,
            lladdr: lladdr(&wire.lladdr)?,
            device: (),
        })
    })
}

fn entries(wire: &[wire::Neighbor]) -> Result<Vec<Neighbor>, FieldError> {
    each(wire, |wire| {
        Ok(Neighbor {
            ip: address(wire)?,
            lladdr: lladdr(&wire.lladdr)?,
            device: device(&wire.device)?,
        })
    })
}

/// Builds the request that adds entries.
#[must_use]
pub fn neighbors_request(neighbors: &[Neighbor]) -> wire::NeighborsRequest {
    wire::NeighborsRequest {
        neighbors: neighbors.iter().map(Into::into).collect(),
        ..wire::NeighborsRequest::default()
    }
}

/// Decodes a request that adds entries.
///
/// # Errors
/// Those of [`check_neighbors`], and an invalid entry.
pub fn new_neighbors(request: &wire::NeighborsRequest) -> Result<Vec<Neighbor>, FieldError> {
    let neighbors = entries(&request.neighbors)?;
    check_neighbors(&neighbors, MAX_NEIGHBORS, FIELD)?;
    Ok(neighbors)
}

/// Builds the request that deletes entries.
#[must_use]
pub fn delete_neighbors_request(patterns: &[NeighborPattern]) -> wire::NeighborsRequest {
    let pattern = |pattern: &NeighborPattern| {
        let NeighborPattern { ip, lladdr, device } = pattern;
        wire::Neighbor {
            ip: ip_bytes(ip.get()),
            lladdr: lladdr.map_or_else(Vec::new, |lladdr| lladdr.octets().to_vec()),
            device: device
                .as_ref()
                .map_or_else(String::new, LinkName::to_string),
            ..wire::Neighbor::default()
        }
    };
    wire::NeighborsRequest {
        neighbors: patterns.iter().map(pattern).collect(),
        ..wire::NeighborsRequest::default()
    }
}

/// Decodes a request that deletes entries.
pub fn neighbor_patterns(
    request: &wire::NeighborsRequest,
) -> Result<Vec<NeighborPattern>, FieldError> {
    each(&request.neighbors, |wire| {
        Ok(NeighborPattern {
            ip: address(wire)?,
            lladdr: unless_default(wire.lladdr.as_slice(), lladdr)?,
            device: unless_default(wire.device.as_str(), device)?,
        })
    })
}

/// Builds the reply that lists entries.
#[must_use]
pub fn neighbors_reply(neighbors: &[Neighbor]) -> wire::ListNeighborsReply {
    wire::ListNeighborsReply {
        neighbors: neighbors.iter().map(Into::into).collect(),
        ..wire::ListNeighborsReply::default()
    }
}

/// Decodes a list of entries.
pub fn neighbors(reply: &wire::ListNeighborsReply) -> Result<Vec<Neighbor>, FieldError> {
    entries(&reply.neighbors)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use protobuf::Message;

    use super::*;

    prop_compose! {
        fn a_neighbor()(
            ip: [u8; 16], v4: bool, lladdr: [u8; 6], device in vec(any::<u8>(), 1..16),
        ) -> Option<Neighbor> {
            let ip = if v4 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) };
            Some(Neighbor {
                ip: NeighborAddress::try_from(ip).ok()?,
                lladdr: lladdr.into(),
                device: LinkName::try_from(&device[..]).ok()?,
            })
        }
    }

    proptest! {
        #[test]
        fn neighbors_round_trip(sent in vec(a_neighbor(), 0..20), whole: [bool; 2]) {
            let sent: Vec<Neighbor> = sent.into_iter().flatten().collect();
            let bytes = neighbors_request(&sent).write_to_bytes().unwrap();
            let read = wire::NeighborsRequest::parse_from_bytes(&bytes).unwrap();
            if check_neighbors(&sent, MAX_NEIGHBORS, FIELD).is_ok() {
                prop_assert_eq!(new_neighbors(&read).unwrap(), sent.clone());
            }
            let bytes = neighbors_reply(&sent).write_to_bytes().unwrap();
            let read = wire::ListNeighborsReply::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(neighbors(&read).unwrap(), sent.clone());
            let pattern = |entry: Neighbor| NeighborPattern {
                ip: entry.ip,
                lladdr: whole[0].then_some(entry.lladdr),
                device: whole[1].then_some(entry.device),
            };
            let patterns: Vec<_> = sent.into_iter().map(pattern).collect();
            let bytes = delete_neighbors_request(&patterns).write_to_bytes().unwrap();
            let read = wire::NeighborsRequest::parse_from_bytes(&bytes).unwrap();
            prop_assert_eq!(neighbor_patterns(&read).unwrap(), patterns);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(request) = wire::NeighborsRequest::parse_from_bytes(&bytes) {
                let _ = (new_neighbors(&request), neighbor_patterns(&request));
            }
        }
    }

    #[test]
    fn invalid_neighbor_is_named() {
        type Break = fn(&mut wire::Neighbor);
        let whole = wire::Neighbor {
            ip: vec![10, 0, 0, 1],
            lladdr: vec![2, 0, 0, 0, 0, 1],
            device: "eth1".to_owned(),
            ..wire::Neighbor::default()
        };
        let cases: [(&str, Break); 4] = [
            ("neighbors[0].ip", |n| n.ip = vec![224, 0, 0, 1]),
            ("neighbors[0].ip", |n| n.ip.clear()),
            ("neighbors[0].lladdr", |n| n.lladdr.truncate(5)),
            ("neighbors[0].device", |n| n.device.clear()),
        ];
        for (field, break_it) in cases {
            let mut broken = whole.clone();
            break_it(&mut broken);
            let request = wire::NeighborsRequest {
                neighbors: vec![broken],
                ..wire::NeighborsRequest::default()
            };
            assert_eq!(new_neighbors(&request).unwrap_err().field(), field);
        }
        for (count, field) in [(2, "neighbors[1]"), (5000, "neighbors")] {
            let request = wire::NeighborsRequest {
                neighbors: vec![whole.clone(); count],
                ..wire::NeighborsRequest::default()
            };
            assert_eq!(new_neighbors(&request).unwrap_err().field(), field);
        }
    }
}
