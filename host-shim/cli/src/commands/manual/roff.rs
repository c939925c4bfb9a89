//! Text of a manual page, in the macros of man(7).

/// Date of the pages, which readers see as that of the last change of their form.
const DATE: &str = "2026-11-26";

/// Maximum length of a line of input (`mandoc -Tlint`).
const MAX_LINE: usize = 78;

/// A page.
#[derive(Debug)]
pub(super) struct Roff(String);

impl Roff {
    /// Begins the page with its title and name.
    pub(super) fn titled(name: &str, about: &str) -> Self {
        let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
        let mut roff = Self(format!(".TH {title} 1 {DATE} \"patchbay {version}\"\n"));
        roff.section("NAME");
        roff.text(&format!("{name} - {about}"));
        roff
    }

    pub(super) fn section(&mut self, title: &str) {
        self.request("SH", title);
    }

    pub(super) fn paragraph(&mut self) {
        self.0.push_str(".PP\n");
    }

    /// Adds a text, in lines of a limited length.
    pub(super) fn text(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            let word = escape(word);
            if !line.is_empty() && line.len() + word.len() >= MAX_LINE {
                self.line(&line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        if !line.is_empty() {
            self.line(&line);
        }
    }

    /// Adds a text in bold.
    pub(super) fn bold(&mut self, text: &str) {
        for line in text.lines() {
            self.request("B", line);
            self.0.push_str(".br\n");
        }
        self.0.truncate(self.0.len() - ".br\n".len());
    }

    /// Adds an entry of a list.
    pub(super) fn entry(&mut self, term: &str, text: &str) {
        self.0.push_str(".TP\n");
        self.request("B", term);
        self.text(text);
    }

    /// Adds lines as they are.
    pub(super) fn verbatim(&mut self, text: &str) {
        let is_first = self
            .0
            .lines()
            .last()
            .is_some_and(|line| line.starts_with(".SH "));
        if !is_first {
            self.paragraph();
        }
        self.0.push_str(".nf\n");
        for line in text.trim_end().lines() {
            if line.is_empty() {
                self.0.push_str(".sp\n");
            } else {
                self.line(&escape(line.trim_end()));
            }
        }
        self.0.push_str(".fi\n");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Adds a request with its argument.
    fn request(&mut self, name: &str, argument: &str) {
        for part in [".", name, " ", &escape(argument.trim()), "\n"] {
            self.0.push_str(part);
        }
    }

    /// Adds a line; a control character at its beginning would make it a request.
    fn line(&mut self, line: &str) {
        if line.starts_with(['.', '\'']) {
            self.0.push_str("\\&");
        }
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// Escapes what roff replaces.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_filled() {
        let mut roff = Roff(String::new());
        roff.text(&format!("'a' \\ --b {}", "word ".repeat(20)));
        let lines: Vec<_> = roff.0.lines().collect();
        assert!(
            lines[0].starts_with("\\(aqa\\(aq \\e \\-\\-b word"),
            "{lines:?}"
        );
        assert!(
            lines.len() == 2 && lines.iter().all(|line| line.len() <= MAX_LINE),
            "{lines:?}"
        );
        let mut roff = Roff(String::new());
        roff.verbatim(".x\n\ny\n");
        assert_eq!(roff.0, ".PP\n.nf\n\\&.x\n.sp\ny\n.fi\n");
    }
}
