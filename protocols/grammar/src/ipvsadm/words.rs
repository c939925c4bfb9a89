//! Words to options, as popt does it: bundles, attached values, `--`, no abbreviations.

use super::error::Refused;
use super::options::{self, Row, Takes};

/// An option with its value.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) row: &'static Row,
    pub(super) value: Option<&'a str>,
}

/// What a line consists of, in order.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Option(Found<'a>),
    /// A word that belongs to no option.
    Plain(&'a str),
}

/// Reads a line item by item.
#[derive(Debug)]
pub(super) struct Words<'a> {
    words: std::slice::Iter<'a, &'a str>,
    /// What is left of a word with several short options.
    bundle: Option<&'a str>,
    /// After `--`.
    only_plain: bool,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [&'a str]) -> Self {
        Self {
            words: words.iter(),
            bundle: None,
            only_plain: false,
        }
    }

    fn short(&mut self, bundle: &'a str) -> Result<Found<'a>, Refused> {
        let mut letters = bundle.chars();
        let letter = letters.next();
        let row = letter.and_then(options::short);
        let Some(row) = row else {
            let word = letter.map_or_else(|| "-".to_owned(), |letter| format!("-{letter}"));
            return Err(Refused::unknown(&word));
        };
        let rest = letters.as_str();
        match row.takes {
            Takes::Nothing if rest.starts_with('=') => Err(Refused::unwanted_value(row)),
            Takes::Nothing => {
                self.bundle = (!rest.is_empty()).then_some(rest);
                Ok(Found { row, value: None })
            }
            _ if rest.is_empty() => self.value(row),
            _ => {
                let value = Some(rest.strip_prefix('=').unwrap_or(rest));
                Ok(Found { row, value })
            }
        }
    }

    fn long(&mut self, text: &'a str) -> Result<Found<'a>, Refused> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let row = options::long(name).ok_or_else(|| Refused::unknown(&format!("--{name}")))?;
        match (row.takes, value) {
            (Takes::Nothing, Some(_)) => Err(Refused::unwanted_value(row)),
            (Takes::Nothing, None) | (_, Some(_)) => Ok(Found { row, value }),
            (_, None) => self.value(row),
        }
    }

    /// The next word is the value, even if it begins with `-`, unless a value need not be.
    fn value(&mut self, row: &'static Row) -> Result<Found<'a>, Refused> {
        let next = self.words.as_slice().first().copied();
        if matches!(row.takes, Takes::MayTake(_)) && next.is_none_or(|word| word.starts_with('-')) {
            return Ok(Found { row, value: None });
        }
        self.words.next();
        match next {
            Some(_) => Ok(Found { row, value: next }),
            None => Err(Refused::missing_value(row)),
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Result<Item<'a>, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(bundle) = self.bundle.take() {
            return Some(self.short(bundle).map(Item::Option));
        }
        loop {
            let word = *self.words.next()?;
            if self.only_plain || !word.starts_with('-') {
                return Some(Ok(Item::Plain(word)));
            }
            if word == "--" {
                self.only_plain = true;
                continue;
            }
            let found = match word.strip_prefix("--") {
                Some(long) => self.long(long),
                None => self.short(&word[1..]),
            };
            return Some(found.map(Item::Option));
        }
    }
}

/// A quote that never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quote or backslash is left open")]
pub struct Unbalanced;

/// Splits text into words at blanks, with a shell's quotes and backslashes and nothing else of it.
///
/// # Errors
/// A quote or backslash without its end.
pub fn split(text: &str) -> Result<Vec<String>, Unbalanced> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => word
                .get_or_insert_default()
                .push_str(&quoted(&mut letters)?),
            '"' => {
                let word = word.get_or_insert_default();
                double_quoted(&mut letters, word)?;
            }
            '\\' => word
                .get_or_insert_default()
                .push(letters.next().ok_or(Unbalanced)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(letters: &mut std::str::Chars<'_>) -> Result<String, Unbalanced> {
    let (inside, rest) = letters.as_str().split_once('\'').ok_or(Unbalanced)?;
    *letters = rest.chars();
    Ok(inside.to_owned())
}

fn double_quoted(letters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), Unbalanced> {
    loop {
        match letters.next().ok_or(Unbalanced)? {
            '"' => return Ok(()),
            '\\' => match letters.next().ok_or(Unbalanced)? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = |text| split(text).unwrap();
        assert_eq!(words(" -A\t-t  x\r\n"), ["-A", "-t", "x"]);
        assert_eq!(words("-s '' \"a b\"c d\\ e"), ["-s", "", "a bc", "d e"]);
        assert_eq!(words(r#""a\"b\n" 'c\'"#), ["a\"b\\n", "c\\"]);
        assert!(words("").is_empty());
        for open in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(open), Err(Unbalanced), "{open}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text: String) {
            if let Ok(words) = split(&text) {
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                let items = Words::new(&words).take(text.len() + 2).count();
                proptest::prop_assert!(items <= text.len() + 1);
            }
        }
    }
}
