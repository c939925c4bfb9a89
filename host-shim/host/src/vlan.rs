//! VLAN of a card on its bridge.

use std::fmt;
use std::str::FromStr;

use patchbay_types::InvalidValue;
use serde::{Deserialize, Serialize};

/// VLAN identifier of IEEE 802.1Q, 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl VlanId {
    const RULE: &str = "a VLAN is a number from 1 to 4094";

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = InvalidValue;

    fn try_from(id: u16) -> Result<Self, InvalidValue> {
        match id {
            1..=4094 => Ok(Self(id)),
            _ => Err(InvalidValue::new(&id, Self::RULE)),
        }
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

impl FromStr for VlanId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        // `parse` accepts a sign.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let id = text.parse().ok().filter(|_| is_number);
        let id = id.and_then(|id: u16| Self::try_from(id).ok());
        id.ok_or_else(|| InvalidValue::new(text, Self::RULE))
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// VLANs of a card's TAP that is a port of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortVlan {
    /// Those that the bridge or another program has given the port.
    #[default]
    Foreign,
    /// This one alone, whose frames have no tag at the port.
    Untagged(VlanId),
}

impl PortVlan {
    /// Returns the VLAN that the card has been given; `None` if it has been given none.
    #[must_use]
    pub fn id(self) -> Option<VlanId> {
        match self {
            Self::Foreign => None,
            Self::Untagged(id) => Some(id),
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde needs"
    )]
    pub(crate) fn is_foreign(&self) -> bool {
        *self == Self::Foreign
    }
}

impl FromStr for PortVlan {
    type Err = InvalidValue;

    /// Parses a VLAN, or `off`.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "off" => Ok(Self::Foreign),
            id => id.parse().map(Self::Untagged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_out_of_range_or_with_a_sign_is_refused() {
        for id in [1, 100, 4094] {
            assert_eq!(id.to_string().parse(), VlanId::try_from(id));
        }
        for text in ["", "0", "4095", "65537", "+1", "-1", "1.0", "a"] {
            let error = text.parse::<VlanId>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not allowed: {}", VlanId::RULE));
        }
    }
}
