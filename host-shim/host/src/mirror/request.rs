//! Requests to mirror a link.

use patchbay_types::{IfName, LinkName, QueuePairs};
use serde::{Deserialize, Serialize};

/// Request to mirror a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRequest {
    /// Link in the sandbox's network namespace.
    pub link: LinkName,
    /// Name of the card in the guest.
    pub name: IfName,
    /// Queue pairs; `None`: one.
    pub queues: Option<QueuePairs>,
    /// Routes and neighbors.
    pub routes: RoutePolicy,
    /// Default routes.
    pub default_route: DefaultRoute,
    /// CNI attachment that the card belongs to.
    pub attachment: Option<Attachment>,
    /// Program that changes and unplugs the card.
    pub keeper: Keeper,
}

impl MirrorRequest {
    /// Requests a card with all that the link has, which takes no default route over.
    #[must_use]
    pub fn new(link: LinkName, name: IfName) -> Self {
        Self {
            link,
            name,
            queues: None,
            routes: RoutePolicy::Mirror,
            default_route: DefaultRoute::Keep,
            attachment: None,
            keeper: Keeper::Operator,
        }
    }
}

/// Program that changes and unplugs the card of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// The one that plugged it, on request.
    #[default]
    Operator,
    /// `patchbay watch`, as the link changes.
    Watch,
}

impl Keeper {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde needs"
    )]
    pub(super) fn is_operator(&self) -> bool {
        *self == Self::Operator
    }
}

/// Policy for routes and static neighbors of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutePolicy {
    /// The card gets them.
    Mirror,
    /// The card gets none.
    Skip,
}

/// Policy for a default route of a link where the guest has one of that family by another card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultRoute {
    /// The guest's stays the only one.
    Keep,
    /// The link's is preferred as long as the card is plugged.
    Take,
}

/// CNI attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// Id of the container.
    pub container: String,
    /// Name of the interface in the container's network namespace.
    pub ifname: String,
}
