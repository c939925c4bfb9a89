//! Untrusted text on its way to a terminal.

/// Returns whether `c` is a terminal control, a line separator or a bidirectional mark, which makes
/// text read as something else.
#[must_use]
pub fn is_terminal_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes such characters.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_terminal_control(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_controls_escapes_terminal_controls_only() {
        assert_eq!(
            escape_controls("a\x1b\u{202e}b\n"),
            "a\\u{1b}\\u{202e}b\\u{a}"
        );
        let plain = "/run/ä'\"\\ 10.0.0.1\u{fffd}";
        assert_eq!(escape_controls(plain), plain);
    }
}
