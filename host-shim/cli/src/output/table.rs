//! Rows for people: what JSON says, in columns.

use serde_json::{Map, Value};

/// Between two columns.
const GAP: &str = "  ";

/// A table of the objects of an array, or of one object: a column for each key that any of them
/// has. No rows make no table.
pub(super) fn of(value: &Value) -> String {
    let rows: Vec<&Map<String, Value>> = match value {
        Value::Array(values) => values.iter().filter_map(Value::as_object).collect(),
        Value::Object(row) => vec![row],
        _ => Vec::new(),
    };
    let mut keys: Vec<&str> = Vec::new();
    for key in rows.iter().flat_map(|row| row.keys()) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let header = keys.iter().map(|key| key.to_uppercase()).collect();
    let cells = |row: &&Map<String, Value>| -> Vec<String> {
        keys.iter()
            .map(|key| row.get(*key).map(cell).unwrap_or_default())
            .collect()
    };
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows.iter().map(cells))
        .filter(|_| !rows.is_empty())
        .collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..keys.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths);
        let padded: Vec<String> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join(GAP).trim_end())
    };
    lines.iter().map(line).collect()
}

/// Text of a guest is escaped: it goes to a terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        // An address and its mask; the family shows.
        Value::Object(parts) => {
            let texts = parts.values().filter(|part| part.is_string()).map(cell);
            texts.collect::<Vec<_>>().join("/")
        }
        Value::Null | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = json!([
            {"name": "eth1", "mtu": 1500, "ip": [{"Family": 2, "Address": "10.0.0.1", "Mask": "8"}]},
            {"name": "eth-test", "mtu": 68, "ip": [], "up": true},
        ]);
        let lines = "NAME      MTU   IP          UP\n\
                     eth1      1500  10.0.0.1/8\n\
                     eth-test  68                yes\n";
        assert_eq!(of(&rows), lines);
    }

    #[test]
    fn text_of_a_guest_is_harmless() {
        assert_eq!(of(&json!({"name": "\u{1b}[2J"})), "NAME\n\\u{1b}[2J\n");
        assert_eq!(of(&json!([])), "");
        assert_eq!(of(&json!(null)), "");
    }
}
