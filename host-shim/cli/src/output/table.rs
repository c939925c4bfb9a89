//! Tables for people.

use std::slice;

use serde_json::Value;

/// Gap between two columns.
const GAP: &str = "  ";

/// Cells of one row under their column titles.
#[derive(Debug, Default)]
pub(crate) struct Cells(Vec<(String, String)>);

impl Cells {
    /// Adds a cell.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
    pub(crate) fn with(mut self, title: impl Into<String>, value: impl ToString) -> Self {
        self.0.push((title.into(), value.to_string()));
        self
    }

    /// Returns the cell of a column. It is escaped, because it can contain text of a guest.
    fn cell(&self, title: &str) -> String {
        let cell = self.0.iter().find(|(known, _)| known == title);
        cell.map_or_else(String::new, |(_, text)| text.escape_debug().to_string())
    }
}

/// Returns a row for each object of JSON; the titles are its keys.
pub(crate) fn rows(value: &Value) -> Vec<Cells> {
    let values = value
        .as_array()
        .map_or(slice::from_ref(value), Vec::as_slice);
    let row = |members: &serde_json::Map<String, Value>| {
        let cells = members.iter();
        Cells(
            cells
                .map(|(key, value)| (key.to_uppercase(), text(value)))
                .collect(),
        )
    };
    values
        .iter()
        .filter_map(Value::as_object)
        .map(row)
        .collect()
}

/// Returns the text of a cell. An object is an address, of which the family is evident.
fn text(value: &Value) -> String {
    match value {
        Value::Bool(is_set) => if *is_set { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Object(_) => format!("{}/{}", text(&value["Address"]), text(&value["Mask"])),
        Value::Null | Value::Number(_) => value.to_string(),
    }
}

/// Renders a table of the columns that occur in any row. Without rows the result is empty.
pub(crate) fn render(rows: &[Cells]) -> String {
    let mut titles: Vec<&str> = Vec::new();
    for (title, _) in rows.iter().flat_map(|row| &row.0) {
        if !titles.contains(&title.as_str()) {
            titles.push(title);
        }
    }
    if titles.is_empty() {
        return String::new();
    }
    let header = titles.iter().map(|title| (*title).to_owned()).collect();
    let cells = |row: &Cells| titles.iter().map(|title| row.cell(title)).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join(GAP).trim_end())
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = [
            Cells::default()
                .with("NAME", "eth1")
                .with("MTU", 1500)
                .with("IP", "10.0.0.1/8"),
            Cells::default()
                .with("NAME", "eth-test")
                .with("MTU", 68)
                .with("UP", "yes"),
        ];
        let lines = "NAME      MTU   IP          UP\n\
                     eth1      1500  10.0.0.1/8\n\
                     eth-test  68                yes\n";
        assert_eq!(render(&rows), lines);
    }

    #[test]
    fn cells_with_controls_are_escaped() {
        let row = Cells::default().with("NAME", "\u{1b}[2J");
        assert_eq!(render(&[row]), "NAME\n\\u{1b}[2J\n");
        assert_eq!(render(&[]), "");
    }

    #[test]
    fn rows_have_the_keys_as_titles() {
        let address = serde_json::json!({"Family": 2, "Address": "10.0.0.1", "Mask": "8"});
        let card =
            serde_json::json!({"name": "eth1", "up": true, "IPAddresses": [address, address]});
        let lines = "NAME  UP   IPADDRESSES\neth1  yes  10.0.0.1/8 10.0.0.1/8\n";
        assert_eq!(render(&rows(&card)), lines);
        assert_eq!(render(&rows(&serde_json::json!([card]))), lines);
        assert_eq!(render(&rows(&serde_json::json!([]))), "");
    }
}
