//! Places of cards in the guest.

use patchbay_types::{FieldError, InvalidValue, PciPath, Place};

use super::check_count;
use super::link::{path, path_bytes};
use crate::proto::agent as wire;

/// Builds the request that locates cards.
#[must_use]
pub fn locate_request(paths: &[PciPath]) -> wire::LocateCardsRequest {
    wire::LocateCardsRequest {
        pci_paths: encode(paths),
        ..wire::LocateCardsRequest::default()
    }
}

/// Decodes the paths of the cards to locate.
///
/// # Errors
/// More than 4096 paths, or an invalid one.
pub fn paths(request: &wire::LocateCardsRequest) -> Result<Vec<PciPath>, FieldError> {
    decode(&request.pci_paths, "pci_paths")
}

fn encode(paths: &[PciPath]) -> Vec<Vec<u8>> {
    paths.iter().map(path_bytes).collect()
}

/// Adds the paths of the cards that yield their name.
#[must_use]
pub fn with_yielding(
    request: wire::ConfigureInterfaceRequest,
    paths: &[PciPath],
) -> wire::ConfigureInterfaceRequest {
    wire::ConfigureInterfaceRequest {
        yielding: encode(paths),
        ..request
    }
}

/// Decodes the paths of the cards that yield their name.
///
/// # Errors
/// More than 4096 paths, or an invalid one.
pub fn yielding(request: &wire::ConfigureInterfaceRequest) -> Result<Vec<PciPath>, FieldError> {
    decode(&request.yielding, "yielding")
}

fn decode(paths: &[Vec<u8>], field: &str) -> Result<Vec<PciPath>, FieldError> {
    check_count(paths.len(), field)?;
    paths.iter().map(|bytes| path(bytes)).collect()
}

/// Maximum length of a driver's name in bytes; the longest of Linux has about 30.
const MAX_DRIVER: usize = 64;

impl From<&Place> for wire::Place {
    fn from(place: &Place) -> Self {
        let (kind, driver) = match place {
            Place::Unknown => (0, ""),
            Place::NotOnBus => (1, ""),
            Place::NoDriver => (2, ""),
            Place::OtherDriver(driver) => (3, driver.as_str()),
            Place::OtherNamespace => (4, ""),
            Place::AgentNamespace => (5, ""),
        };
        Self {
            kind,
            driver: driver.to_owned(),
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::Place> for Place {
    type Error = FieldError;

    fn try_from(wire: &wire::Place) -> Result<Self, FieldError> {
        let wire::Place {
            kind,
            driver,
            special_fields: _,
        } = wire;
        if driver.len() > MAX_DRIVER {
            let rule = "a driver's name has at most 64 bytes";
            return Err(InvalidValue::new(driver, rule).in_field("driver"));
        }
        Ok(match kind {
            1 => Self::NotOnBus,
            2 => Self::NoDriver,
            3 => Self::OtherDriver(driver.clone()),
            4 => Self::OtherNamespace,
            5 => Self::AgentNamespace,
            // Of a later release.
            _ => Self::Unknown,
        })
    }
}

/// Decodes the places of `count` cards.
///
/// # Errors
/// Another number of places, or an invalid one.
pub fn places(reply: &wire::LocateCardsReply, count: usize) -> Result<Vec<Place>, FieldError> {
    if reply.places.len() != count {
        let rule = format!("the request has {count} paths");
        return Err(InvalidValue::new(&reply.places.len(), rule).in_field("places"));
    }
    reply.places.iter().map(Place::try_from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip_and_unknown_kind_is_accepted() {
        let all = [
            Place::Unknown,
            Place::NotOnBus,
            Place::NoDriver,
            Place::OtherDriver("vfio-pci".to_owned()),
            Place::OtherNamespace,
            Place::AgentNamespace,
        ];
        let mut reply = wire::LocateCardsReply {
            places: all.iter().map(Into::into).collect(),
            ..wire::LocateCardsReply::default()
        };
        assert_eq!(places(&reply, 6).unwrap(), all);
        reply.places[1].kind = 77;
        assert_eq!(places(&reply, 6).unwrap()[1], Place::Unknown);
    }

    #[test]
    fn places_invalid_reply_is_refused() {
        let long = wire::Place {
            driver: "d".repeat(65),
            ..wire::Place::default()
        };
        let reply = wire::LocateCardsReply {
            places: vec![long],
            ..wire::LocateCardsReply::default()
        };
        assert_eq!(places(&reply, 1).unwrap_err().field(), "driver");
        assert_eq!(places(&reply, 2).unwrap_err().field(), "places");
    }
}
