//! Requests to release a card.

use patchbay_types::{FieldError, PciPath, SlotPower};

use super::link::{path, path_bytes};
use crate::proto::agent as wire;

/// Builds the request to release the card at `path`. The caller sets `wait_ms`.
#[must_use]
pub fn release_request(path: &PciPath, power: SlotPower) -> wire::ReleaseCardRequest {
    wire::ReleaseCardRequest {
        pci_path: path_bytes(path),
        power_off: power == SlotPower::Off,
        ..wire::ReleaseCardRequest::default()
    }
}

impl TryFrom<&wire::ReleaseCardRequest> for (PciPath, SlotPower) {
    type Error = FieldError;

    fn try_from(request: &wire::ReleaseCardRequest) -> Result<Self, FieldError> {
        let wire::ReleaseCardRequest {
            pci_path,
            wait_ms: _,
            power_off,
            special_fields: _,
        } = request;
        let power = if *power_off {
            SlotPower::Off
        } else {
            SlotPower::Keep
        };
        Ok((path(pci_path)?, power))
    }
}

#[cfg(test)]
mod tests {
    use patchbay_types::PciAddress;
    use protobuf::Message;

    use super::*;

    #[test]
    fn release_request_round_trips() {
        let steps = [8, 0].map(PciAddress::from_devfn).to_vec();
        let path = PciPath::new(steps).unwrap();
        for power in [SlotPower::Keep, SlotPower::Off] {
            let bytes = release_request(&path, power).write_to_bytes().unwrap();
            let read = wire::ReleaseCardRequest::parse_from_bytes(&bytes).unwrap();
            let read = <(PciPath, SlotPower)>::try_from(&read).unwrap();
            assert_eq!(read, (path.clone(), power));
        }
    }

    #[test]
    fn release_request_without_path_is_rejected() {
        for pci_path in [Vec::new(), vec![0; 9]] {
            let request = wire::ReleaseCardRequest {
                pci_path,
                ..wire::ReleaseCardRequest::default()
            };
            let error = <(PciPath, SlotPower)>::try_from(&request).unwrap_err();
            assert_eq!(error.field(), "pci_path");
        }
    }
}
