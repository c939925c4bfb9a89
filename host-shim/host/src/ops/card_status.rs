//! Cards in the report of an examination.

use patchbay_types::IfName;
use serde::Serialize;

use super::cards::Card;
use crate::sandbox::{CardRecord, Phase};

/// Card of patchbay.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CardStatus {
    /// Name under which the card was plugged.
    pub name: String,
    /// Host device; `None` if the journal has lost the card.
    pub device: Option<String>,
    /// MAC address; `None` if QEMU does not have the card.
    pub hw_addr: Option<String>,
    /// PCI path; `None` if QEMU does not have the card.
    pub pci_addr: Option<String>,
    /// Phase in the journal; `None` if the journal has lost the card.
    pub phase: Option<Phase>,
    /// Whether the TAP was deleted on the host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tap_deleted: bool,
    /// Present name in the guest, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_name: Option<String>,
    /// State that a working card doesn't have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl CardStatus {
    pub(super) fn new(name: &IfName, record: Option<&CardRecord>, card: Option<&Card>) -> Self {
        Self {
            name: name.to_string(),
            device: record.map(|record| record.device.to_string()),
            hw_addr: card.map(|card| card.mac.to_string()),
            pci_addr: card.and_then(|card| Some(card.path.as_ref()?.to_string())),
            phase: record.map(|record| record.phase),
            guest_name: card.and_then(|card| card.other_name().map(ToString::to_string)),
            state: card.and_then(|card| Some(card.state.as_ref()?.to_string())),
            tap_deleted: false,
        }
    }
}
