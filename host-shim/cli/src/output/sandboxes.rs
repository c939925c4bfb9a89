//! Columns of the list of sandboxes.

use super::table::Column;

/// Columns of `list`.
pub(crate) const COLUMNS: &[Column] = &[
    Column::new("id"),
    Column::new("state"),
    Column::new("machine"),
    Column::new("agent"),
    Column::new("cards"),
    Column::new("netns"),
];
