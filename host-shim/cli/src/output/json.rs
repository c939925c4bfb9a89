//! Lines of JSON.

use std::fmt::Write as _;

use patchbay_types::failure::{Failure, Kind};
use patchbay_types::text::is_terminal_control;
use serde::Serialize;
use serde_json::Value;

/// Renders `value` as a line of JSON. Terminal controls above U+001F, which JSON allows in strings
/// and names of interfaces can contain, are escaped too.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(value).map_err(|error| Failure::of(Kind::Other, &error))?;
    if !line.contains(is_terminal_control) {
        return Ok(line + "\n");
    }
    let mut escaped = String::with_capacity(line.len() + 1);
    for c in line.chars() {
        if is_terminal_control(c) {
            // Writing to a String can't fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped.push('\n');
    Ok(escaped)
}

/// Drops the members of an object that are `null`.
pub(super) fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Renders `values` as a line of JSON; `null` if there are none, as Go prints a nil slice.
pub(crate) fn json_line_or_null<T: Serialize>(values: &[T]) -> Result<String, Failure> {
    json_line(&(!values.is_empty()).then_some(values))
}
