//! Network managers of the guest.

use crate::proto::agent as wire;
use patchbay_types::{CardTreatment, FieldError, InvalidValue, MacAddr, NetworkManager};

use super::link::mac;

/// Maximum number of managers in a reply, and maximum length of a name in bytes.
const MAX_MANAGERS: usize = 64;

/// Builds the request that marks a card.
#[must_use]
pub fn mark_card_request(mac: MacAddr) -> wire::MarkCardRequest {
    wire::MarkCardRequest {
        mac: mac.octets().to_vec(),
        ..wire::MarkCardRequest::default()
    }
}

impl TryFrom<&wire::MarkCardRequest> for MacAddr {
    type Error = FieldError;

    fn try_from(request: &wire::MarkCardRequest) -> Result<Self, FieldError> {
        let wire::MarkCardRequest {
            mac: bytes,
            special_fields: _,
        } = request;
        mac(bytes)
    }
}

impl From<&NetworkManager> for wire::NetworkManager {
    fn from(manager: &NetworkManager) -> Self {
        let NetworkManager { name, pid, cards } = manager;
        Self {
            name: name.clone(),
            pid: *pid,
            excludes_cards: *cards == CardTreatment::Excluded,
            ..Self::default()
        }
    }
}

impl TryFrom<&wire::NetworkManager> for NetworkManager {
    type Error = FieldError;

    fn try_from(wire: &wire::NetworkManager) -> Result<Self, FieldError> {
        let wire::NetworkManager {
            name,
            pid,
            excludes_cards,
            special_fields: _,
        } = wire;
        if name.is_empty() || name.len() > MAX_MANAGERS {
            let rule = "a program's name has 1 to 64 bytes";
            return Err(InvalidValue::new(name, rule).in_field("name"));
        }
        Ok(Self {
            name: name.clone(),
            pid: *pid,
            cards: if *excludes_cards {
                CardTreatment::Excluded
            } else {
                CardTreatment::Managed
            },
        })
    }
}

/// Decodes a list of network managers.
///
/// # Errors
/// More than 64, or an invalid one.
pub fn managers(reply: &wire::ListManagersReply) -> Result<Vec<NetworkManager>, FieldError> {
    let count = reply.managers.len();
    if count > MAX_MANAGERS {
        return Err(InvalidValue::new(&count, "at most 64 are accepted").in_field("managers"));
    }
    reply
        .managers
        .iter()
        .map(NetworkManager::try_from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> wire::NetworkManager {
        wire::NetworkManager {
            name: name.to_owned(),
            pid: 7,
            excludes_cards: true,
            ..wire::NetworkManager::default()
        }
    }

    fn reply(managers: Vec<wire::NetworkManager>) -> wire::ListManagersReply {
        wire::ListManagersReply {
            managers,
            ..wire::ListManagersReply::default()
        }
    }

    #[test]
    fn managers_round_trip() {
        let decoded = managers(&reply(vec![manager("dhcpcd")])).unwrap();
        assert_eq!(decoded[0].cards, CardTreatment::Excluded);
        assert_eq!(wire::NetworkManager::from(&decoded[0]), manager("dhcpcd"));
        let mac = "02:00:00:00:00:01".parse().unwrap();
        assert_eq!(MacAddr::try_from(&mark_card_request(mac)), Ok(mac));
    }

    #[test]
    fn managers_beyond_the_bounds_are_rejected() {
        let many = vec![manager("a"); MAX_MANAGERS + 1];
        assert_eq!(managers(&reply(many)).unwrap_err().field(), "managers");
        for name in [String::new(), "x".repeat(MAX_MANAGERS + 1)] {
            let error = managers(&reply(vec![manager(&name)])).unwrap_err();
            assert_eq!(error.field(), "name");
        }
    }
}
