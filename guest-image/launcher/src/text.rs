//! Escaping of logs and console output for terminals.

use patchbay_types::text::escape_controls;

/// Escapes terminal controls other than line ends and tabs.
pub(crate) fn escape_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let mut escaped = String::with_capacity(text.len());
    for piece in text.split_inclusive(['\n', '\t']) {
        let body = piece.trim_end_matches(['\n', '\t']);
        escaped.push_str(&escape_controls(body));
        escaped.push_str(&piece[body.len()..]);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_lines_keeps_line_ends_and_tabs() {
        let escaped = escape_lines(b"a\x1b[2Jb\r\nc\td\x07\n\n");
        assert_eq!(escaped, "a\\u{1b}[2Jb\nc\td\\u{7}\n\n");
    }
}
