//! State of a card's TAP in the journal.

use serde::{Deserialize, Serialize};

use crate::netns::HostLinkState;

/// Whether the guest and the TAP have the same MTU, as far as patchbay set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MtuState {
    #[default]
    Settled,
    /// A change has begun; the guest and the TAP know how far it came.
    Changing,
}

impl MtuState {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde needs"
    )]
    pub(super) fn is_settled(&self) -> bool {
        *self == Self::Settled
    }
}

/// State of a TAP before its card, to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedTap {
    #[serde(flatten)]
    pub(crate) state: HostLinkState,
    /// Interface index, which no later TAP of the same name has; absent in records of release 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u32>,
}
