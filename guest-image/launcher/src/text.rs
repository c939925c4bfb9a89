//! Text that a guest or another program wrote, made safe for a terminal.

/// Replaces control characters, except line ends and tabs, by their escapes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' | '\t' => safe.push(character),
            control if control.is_control() => safe.extend(control.escape_default()),
            other => safe.push(other),
        }
    }
    safe
}

/// The last `count` lines, made safe.
#[must_use]
pub fn last_lines(bytes: &[u8], count: usize) -> Vec<String> {
    let text = escaped(&String::from_utf8_lossy(bytes));
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(count);
    lines[first..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped("a\x1b[2Jb\r\nc\td\x07"), "a\\u{1b}[2Jb\nc\td\\u{7}");
    }

    #[test]
    fn last_lines_takes_the_end() {
        assert_eq!(last_lines(b"1\n2\n3\n", 2), ["2", "3"]);
        assert_eq!(last_lines(b"1", 2), ["1"]);
        assert!(last_lines(b"", 2).is_empty());
    }
}
