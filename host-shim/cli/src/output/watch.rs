//! Changes of `watch`.

use patchbay_host::watch::Change;
use serde::Serialize;

use super::table::Column;

/// Columns of `watch --once`.
pub(crate) const COLUMNS: &[Column] = &[
    Column::new("sandbox"),
    Column::new("link"),
    Column::new("card"),
    Column::new("action"),
];

/// Change of a sandbox.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeRow {
    sandbox: String,
    link: String,
    card: String,
    action: String,
}

impl ChangeRow {
    pub(crate) fn new(sandbox: &impl ToString, change: &Change) -> Self {
        let Change { link, card, action } = change;
        Self {
            sandbox: sandbox.to_string(),
            link: link.to_string(),
            card: card.to_string(),
            action: action.to_string(),
        }
    }
}
