//! Runs iproute2.

use std::process::Command;

use serde_json::Value;

/// Runs `ip` with these words and returns its output.
pub(super) fn run(words: &str) -> Result<String, String> {
    let output = Command::new("ip").args(words.split_whitespace()).output();
    let output = output.map_err(|error| format!("could not run ip: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {words}: {}", error.trim_end()))
}

/// Runs `ip -j -N` with these words and returns the rows.
pub(super) fn rows(words: &str) -> Result<Vec<Value>, String> {
    let text = run(&format!("-j -N {words}"))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|error| format!("ip {words}: {error}"))
}

/// Returns a text of a row, empty if it has none.
pub(super) fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}
