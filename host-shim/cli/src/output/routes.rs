//! Routes as a table.

use serde_json::Value;

use super::table::{Column, text};
use crate::input::route::flags::{PROTOCOL_NAMES, SCOPE_NAMES, name_of};

/// Columns of `route list`.
pub(crate) const ROUTES: &[Column] = &[
    Column::new("dest"),
    Column::new("gateway"),
    Column::new("device"),
    Column::new("source"),
    Column::in_words("scope", |scope| named(scope, SCOPE_NAMES)),
    Column::new("metric"),
    Column::new("table"),
    Column::new("mtu"),
    Column::in_words("protocol", |protocol| named(protocol, PROTOCOL_NAMES)),
    Column::new("onlink"),
];

/// Returns the name of a number, as `ip route` prints it.
fn named(number: &Value, names: &[(&'static str, u32)]) -> String {
    let known = number.as_u64().and_then(|number| name_of(number, names));
    known.map_or_else(|| text(number), str::to_owned)
}
