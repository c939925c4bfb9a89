//! Tables for people.

use std::io;
use std::slice;

use patchbay_types::text::escape_controls;
use serde_json::Value;

/// Text of a cell without a value, so that every row has as many words as another.
const NO_VALUE: &str = "-";

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
        cell.map_or_else(String::new, |(_, text)| escape_controls(text))
    }
}

/// Column of a table of JSON objects. Its title is the key.
#[derive(Debug)]
pub(crate) struct Column {
    key: &'static str,
    text: fn(&Value) -> String,
}

impl Column {
    /// Shows the values of a key.
    pub(crate) const fn new(key: &'static str) -> Self {
        Self { key, text }
    }

    /// Shows the values of a key in words.
    pub(crate) const fn in_words(key: &'static str, text: fn(&Value) -> String) -> Self {
        Self { key, text }
    }

    fn title(&self) -> String {
        self.key.to_uppercase()
    }

    fn cell(&self, object: &Value) -> String {
        let text = match &object[self.key] {
            Value::Null => String::new(),
            value => (self.text)(value),
        };
        if text.is_empty() {
            return NO_VALUE.to_owned();
        }
        escape_controls(&text)
    }
}

/// Returns the width of standard output, if that is a terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(width.0.into())
}

/// Renders an object with a line for each column.
pub(crate) fn of_members(columns: &[Column], object: &Value) -> String {
    let line = |column: &Column| vec![column.title(), column.cell(object)];
    aligned(&columns.iter().map(line).collect::<Vec<_>>())
}

/// Renders a table with a row for each object of JSON. The columns do not depend on the rows. A table that is
/// wider than the terminal has the cells of an object below each other, and nothing is cut off.
pub(crate) fn of_objects(columns: &[Column], value: &Value, width: Option<usize>) -> String {
    let table = rows_of_objects(columns, value);
    let widest = table.lines().map(|line| line.chars().count()).max();
    let objects = value
        .as_array()
        .map_or(slice::from_ref(value), Vec::as_slice);
    if objects.is_empty() || width.is_none_or(|width| widest <= Some(width)) {
        return table;
    }
    let blocks = objects.iter().map(|object| of_members(columns, object));
    blocks.collect::<Vec<_>>().join("\n")
}

fn rows_of_objects(columns: &[Column], value: &Value) -> String {
    let objects = value
        .as_array()
        .map_or(slice::from_ref(value), Vec::as_slice);
    let header = columns.iter().map(Column::title).collect();
    let row = |object| columns.iter().map(|column| column.cell(object)).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(objects.iter().map(row))
        .collect();
    aligned(&lines)
}

/// Returns the text of a cell. An object is an address, of which the family is evident.
pub(crate) fn text(value: &Value) -> String {
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
    aligned(&lines)
}

/// Renders lines whose cells begin at the same columns.
fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(width).collect();
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
    fn objects_wider_than_the_terminal_are_blocks() {
        let columns = [Column::new("name"), Column::new("state")];
        let cards =
            serde_json::json!([{"name": "eth1"}, {"name": "eth2", "state": "being removed"}]);
        let table = "NAME  STATE\neth1  -\neth2  being removed\n";
        assert_eq!(of_objects(&columns, &cards, Some(19)), table);
        let blocks = "NAME   eth1\nSTATE  -\n\nNAME   eth2\nSTATE  being removed\n";
        assert_eq!(of_objects(&columns, &cards, Some(18)), blocks);
        assert_eq!(
            of_objects(&columns, &serde_json::json!([]), Some(3)),
            "NAME  STATE\n"
        );
    }

    #[test]
    fn columns_do_not_depend_on_the_objects() {
        let columns = [
            Column::new("name"),
            Column::new("up"),
            Column::new("IPAddresses"),
        ];
        let address = serde_json::json!({"Family": 2, "Address": "10.0.0.1", "Mask": "8"});
        let card =
            serde_json::json!({"name": "eth1", "up": true, "IPAddresses": [address, address]});
        let lines = "NAME  UP   IPADDRESSES\neth1  yes  10.0.0.1/8 10.0.0.1/8\n";
        assert_eq!(of_objects(&columns, &card, None), lines);
        assert_eq!(
            of_objects(&columns, &serde_json::json!([card]), None),
            lines
        );
        let header = "NAME  UP  IPADDRESSES\n";
        assert_eq!(of_objects(&columns, &serde_json::json!([]), None), header);
        let bare = serde_json::json!([{"name": "\u{1b}'", "IPAddresses": [], "other": 1}]);
        let row = "\\u{1b}'  -   -\n";
        assert_eq!(
            of_objects(&columns, &bare, None),
            format!("NAME     UP  IPADDRESSES\n{row}")
        );
    }
}
