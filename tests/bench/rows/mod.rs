//! The rows, grouped by the guests that they share.

pub(crate) mod agents;
pub(crate) mod cards;
pub(crate) mod documents;
pub(crate) mod kubernetes;
pub(crate) mod large;
pub(crate) mod rules;
pub(crate) mod tables;
pub(crate) mod updates;
pub(crate) mod watch;
pub(crate) mod wire;
