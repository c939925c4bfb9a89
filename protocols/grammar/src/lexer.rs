//! The lexer of both grammars, and the splitting of text into words.

use crate::ParseError;
use crate::option::{OptionSpec, OptionTable, Spelling, Value, ValueKind};

/// Rules in which the option libraries of the two programs differ. Neither grammar accepts
/// abbreviated options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// ipvsadm: `-w=1` is `-w 1`.
    Popt,
    /// conntrack: the value in `-m=1` is `=1`.
    Getopt,
}

/// Part of a command line.
pub(crate) enum Token<'a, A: 'static> {
    Option(&'static OptionSpec<A>, Value<'a>),
    /// A word that is not an option or its value.
    Word(&'a str),
}

/// Iterator over the tokens of a command line.
pub(crate) struct Lexer<'a, A: 'static, S> {
    options: OptionTable<A>,
    dialect: Dialect,
    words: std::slice::Iter<'a, S>,
    /// Rest of a word with several short options.
    bundle: &'a str,
    /// Set by `--`.
    options_ended: bool,
}

impl<'a, A: 'static, S: AsRef<str>> Lexer<'a, A, S> {
    pub(crate) fn new(options: OptionTable<A>, dialect: Dialect, words: &'a [S]) -> Self {
        Self {
            options,
            dialect,
            words: words.iter(),
            bundle: "",
            options_ended: false,
        }
    }

    fn lookup(&self, matches: impl Fn(Spelling) -> bool) -> Option<&'static OptionSpec<A>> {
        let mut options = self.options.iter().copied().flatten();
        options.find(|option| matches(option.spelling))
    }

    fn short(&mut self, bundle: &'a str) -> Result<Token<'a, A>, ParseError> {
        let mut letters = bundle.chars();
        let letter = letters.next();
        let option = letter.and_then(|letter| self.lookup(|word| word.short.contains(letter)));
        let option = option.ok_or_else(|| {
            ParseError::unknown(&format!(
                "-{}",
                letter.map(String::from).unwrap_or_default()
            ))
        })?;
        let rest = letters.as_str();
        match (option.value, self.dialect) {
            (ValueKind::None, _) if rest.starts_with('=') => {
                Err(ParseError::UnwantedValue(option.spelling))
            }
            (ValueKind::None, _) => {
                self.bundle = rest;
                Ok(token(option, None))
            }
            _ if rest.is_empty() => self.value(option),
            (_, Dialect::Popt) => Ok(token(option, Some(rest.strip_prefix('=').unwrap_or(rest)))),
            (_, Dialect::Getopt) => Ok(token(option, Some(rest))),
        }
    }

    fn long(&mut self, text: &'a str) -> Result<Token<'a, A>, ParseError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let option = self.lookup(|word| word.long == name || word.alias == Some(name));
        let option = option.ok_or_else(|| ParseError::unknown(&format!("--{name}")))?;
        match (option.value, value) {
            (ValueKind::None, Some(_)) => Err(ParseError::UnwantedValue(option.spelling)),
            (ValueKind::None, None) | (_, Some(_)) => Ok(token(option, value)),
            (_, None) => self.value(option),
        }
    }

    /// A required value is the next word even if that begins with `-`.
    fn value(&mut self, option: &'static OptionSpec<A>) -> Result<Token<'a, A>, ParseError> {
        let next = self.words.as_slice().first().map(AsRef::as_ref);
        match (option.value, next) {
            (ValueKind::Optional(_), None) => Ok(token(option, None)),
            (ValueKind::Optional(_), Some(word)) if word.starts_with('-') => {
                Ok(token(option, None))
            }
            (_, None) => Err(ParseError::MissingValue(option.spelling)),
            (_, Some(_)) => {
                self.words.next();
                Ok(token(option, next))
            }
        }
    }
}

fn token<'a, A>(option: &'static OptionSpec<A>, text: Option<&'a str>) -> Token<'a, A> {
    let value = Value {
        option: option.spelling,
        text,
    };
    Token::Option(option, value)
}

impl<'a, A: 'static, S: AsRef<str>> Iterator for Lexer<'a, A, S> {
    type Item = Result<Token<'a, A>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bundle = std::mem::take(&mut self.bundle);
        if !bundle.is_empty() {
            return Some(self.short(bundle));
        }
        let word = self.words.next()?.as_ref();
        if word == "--" && !self.options_ended {
            self.options_ended = true;
            return self.next();
        }
        Some(match word.strip_prefix('-') {
            Some(option) if !self.options_ended => match option.strip_prefix('-') {
                Some(long) => self.long(long),
                None => self.short(option),
            },
            _ => Ok(Token::Word(word)),
        })
    }
}

/// Error of [`split`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unclosed quote or trailing backslash")]
pub struct UnclosedQuote;

/// Splits text into words at blanks, with a shell's quotes and backslashes. Expands nothing and
/// knows no comments.
///
/// # Errors
/// A quote without its end, or a backslash at the end.
pub fn split(text: &str) -> Result<Vec<String>, UnclosedQuote> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote == Some(c) {
            quote = None;
            continue;
        }
        match (quote, c) {
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let escaped = chars.next().ok_or(UnclosedQuote)?;
                let word = word.get_or_insert_default();
                if quote.is_some() && !matches!(escaped, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(_) => Err(UnclosedQuote),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_honours_quotes_and_backslashes() {
        let words = |text| split(text).unwrap();
        assert_eq!(words(" -A\t-t  x\r\n"), ["-A", "-t", "x"]);
        assert_eq!(words("-s '' \"a b\"c d\\ e"), ["-s", "", "a bc", "d e"]);
        assert_eq!(words(r#""a\"b\n" 'c\'"#), ["a\"b\\n", "c\\"]);
        assert!(words("").is_empty());
        for open in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(open), Err(UnclosedQuote), "{open}");
        }
    }

    proptest::proptest! {
        #[test]
        fn lexer_any_text_ends(text: String) {
            if let Ok(words) = split(&text) {
                let lexer = Lexer::new(crate::ipvsadm::OPTIONS, Dialect::Popt, &words);
                let tokens = lexer.take(text.len() + 2).count();
                proptest::prop_assert!(tokens <= text.len() + 1);
            }
        }
    }
}
