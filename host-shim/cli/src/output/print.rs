//! Writing to standard output.

use std::io::{self, Write};

use patchbay_types::text::is_terminal_control;

use super::{Form, Output, table};

/// Prints in this form.
pub(super) fn print(output: &Output, form: Form) -> io::Result<()> {
    let mut stdout = io::stdout();
    match output {
        Output::Nothing => Ok(()),
        Output::Text(text) => stdout.write_all(text),
        Output::Rows(rows) => write!(stdout, "{}", table::of(rows)),
        // Too deep for a table.
        document @ Output::Document(_) => writeln!(stdout, "{}", json(document)?),
        line if form == Form::Json => writeln!(stdout, "{}", json(line)?),
        rows => write!(stdout, "{}", table::of(&serde_json::to_value(rows)?)),
    }
}

/// One line in which nothing of a guest's is left that a terminal would obey: JSON itself escapes
/// only what is below a space, and names of interfaces may hold the controls above 0x7e too.
fn json(output: &Output) -> io::Result<String> {
    let line = serde_json::to_string(output)?;
    if !line.contains(is_terminal_control) {
        return Ok(line);
    }
    let escaped = line.chars().map(|c| match c {
        obeyed if is_terminal_control(obeyed) => format!("\\u{:04x}", u32::from(obeyed)),
        plain => plain.to_string(),
    });
    Ok(escaped.collect())
}
