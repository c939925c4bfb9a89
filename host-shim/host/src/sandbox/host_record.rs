//! Settings of a card on the host in the journal.

use patchbay_types::LinkName;
use serde::{Deserialize, Serialize};

use super::name_as_text;
use crate::card::HostSettings;
use crate::mirror::WireRecord;

/// Settings of a card, and a change of them that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    #[serde(flatten)]
    pub(crate) now: HostSettings,
    /// Settings before a change that has begun, and that the next command undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<HostSettings>,
    /// Present while the traffic that the card sends is or was limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shaper: Option<ShaperRecord>,
}

impl HostRecord {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether the TAP has, or can have, a limit of the traffic that the card receives.
    pub(crate) fn limits_received(&self) -> bool {
        let settings = [Some(self.now), self.before].into_iter().flatten();
        settings
            .into_iter()
            .any(|settings| !settings.receive.is_none())
    }
}

/// Device of the kind `ifb` through which the frames pass that a card sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShaperRecord {
    #[serde(with = "name_as_text")]
    pub(crate) device: LinkName,
    /// The TAP, which passes its frames to the device.
    pub(crate) tap: WireRecord,
}
