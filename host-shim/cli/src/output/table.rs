//! Tables for people.

/// Gap between two columns.
const GAP: &str = "  ";

/// Cells of one row under their column titles.
#[derive(Debug, Default)]
pub(crate) struct Cells(Vec<(&'static str, String)>);

impl Cells {
    /// Adds a cell.
    pub(crate) fn with(mut self, title: &'static str, value: impl ToString) -> Self {
        self.0.push((title, value.to_string()));
        self
    }

    /// Adds a cell if there is a value.
    pub(crate) fn with_some(self, title: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(title, value),
            None => self,
        }
    }

    /// Returns the cell of a column. It is escaped, because it can contain text of a guest.
    fn cell(&self, title: &str) -> String {
        let cell = self.0.iter().find(|(known, _)| *known == title);
        cell.map_or_else(String::new, |(_, text)| text.escape_debug().to_string())
    }
}

/// Renders a table of the columns that occur in any row. Without rows the result is empty.
pub(crate) fn render(rows: &[Cells]) -> String {
    let mut titles: Vec<&str> = Vec::new();
    for (title, _) in rows.iter().flat_map(|row| &row.0) {
        if !titles.contains(title) {
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
        let row = Cells::default()
            .with("NAME", "\u{1b}[2J")
            .with_some("MTU", None::<u16>);
        assert_eq!(render(&[row]), "NAME\n\\u{1b}[2J\n");
        assert_eq!(render(&[]), "");
    }
}
