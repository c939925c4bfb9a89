//! The lexer of both grammars, and the splitting of text into words.

use std::iter::Peekable;

use crate::ParseError;
use crate::option::{OptionSpec, OptionTable, Value, ValueKind};
use crate::spelling::Spelling;

/// Rules in which the option libraries of the two programs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// ipvsadm: `-w=1` is `-w 1`, and abbreviations are not accepted.
    Popt,
    /// conntrack: the value in `-m=1` is `=1`, and `--orig-d` is `--orig-dst`.
    Getopt,
}

impl Dialect {
    fn unknown_rule(self) -> &'static str {
        match self {
            Self::Popt => "no such option, and abbreviations are not accepted",
            Self::Getopt => "no such option",
        }
    }
}

/// Part of a command line.
pub(crate) enum Token<'a, A: 'static> {
    Option(&'static OptionSpec<A>, Value<'a>),
    /// A word that is not an option or its value.
    Word(&'a str),
}

/// Iterator over the tokens of a command line.
pub(crate) struct Lexer<'a, A: 'static, I: Iterator> {
    options: OptionTable<A>,
    dialect: Dialect,
    words: Peekable<I>,
    /// Rest of a word with several short options.
    bundle: &'a str,
    /// Set by `--`.
    options_ended: bool,
}

/// Splits a command line into tokens.
pub(crate) fn tokens<A, S: AsRef<str>>(
    options: OptionTable<A>,
    dialect: Dialect,
    words: &[S],
) -> Lexer<'_, A, impl Iterator<Item = &str>> {
    Lexer {
        options,
        dialect,
        words: words.iter().map(AsRef::as_ref).peekable(),
        bundle: "",
        options_ended: false,
    }
}

impl<'a, A: 'static, I: Iterator<Item = &'a str>> Lexer<'a, A, I> {
    fn specs(&self) -> impl Iterator<Item = &'static OptionSpec<A>> + use<A, I> {
        self.options.iter().copied().flatten()
    }

    /// Finds a long option, and its spelling with this word.
    fn named(&self, name: &str) -> Result<(&'static OptionSpec<A>, Spelling), ParseError> {
        let words = self.specs().flat_map(|option| {
            let Spelling { long, alias, .. } = option.spelling;
            let words = [Some(long), alias].into_iter().flatten();
            words.map(move |long| (option, option.spelling.with(long)))
        });
        let mut begun = Vec::new();
        for (option, spelling) in words {
            if spelling.long == name {
                return Ok((option, spelling));
            }
            if self.dialect == Dialect::Getopt && spelling.long.starts_with(name) {
                begun.push((option, spelling));
            }
        }
        let word = format!("--{name}");
        let Some((option, spelling)) = begun.first().copied() else {
            return Err(ParseError::unknown(&word, self.dialect.unknown_rule()));
        };
        if begun.iter().all(|(other, _)| std::ptr::eq(*other, option)) {
            return Ok((option, spelling));
        }
        let words = begun
            .iter()
            .map(|(_, spelling)| format!("--{}", spelling.long));
        let rule = format!("it can mean {}", words.collect::<Vec<_>>().join(", "));
        Err(ParseError::unknown(&word, rule))
    }

    fn short(&mut self, bundle: &'a str) -> Result<Token<'a, A>, ParseError> {
        let mut letters = bundle.chars();
        let letter = letters.next();
        let is_meant = |option: &&OptionSpec<A>| {
            letter.is_some_and(|letter| option.spelling.short.contains(letter))
        };
        let option = self.specs().find(is_meant).ok_or_else(|| {
            let letter = letter.map(String::from).unwrap_or_default();
            ParseError::unknown(&format!("-{letter}"), self.dialect.unknown_rule())
        })?;
        let rest = letters.as_str();
        let attached = match (option.value, self.dialect) {
            (ValueKind::None, _) if !rest.starts_with('=') => {
                self.bundle = rest;
                None
            }
            (_, Dialect::Popt) => Some(rest.strip_prefix('=').unwrap_or(rest)),
            (_, Dialect::Getopt) => Some(rest),
        };
        let attached = attached.filter(|_| !rest.is_empty());
        self.value(option, option.spelling, attached)
    }

    fn long(&mut self, text: &'a str) -> Result<Token<'a, A>, ParseError> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let (option, spelling) = self.named(name)?;
        self.value(option, spelling, attached)
    }

    /// A required value is the next word even if that begins with `-`.
    fn value(
        &mut self,
        option: &'static OptionSpec<A>,
        spelling: Spelling,
        attached: Option<&'a str>,
    ) -> Result<Token<'a, A>, ParseError> {
        let text = match (option.value, attached) {
            (ValueKind::None, Some(_)) => return Err(ParseError::UnwantedValue(spelling)),
            (ValueKind::None, None) => None,
            (_, Some(text)) => Some(text),
            (ValueKind::Optional(_), None) => self.words.next_if(|word| !word.starts_with('-')),
            (ValueKind::Required(_), None) => Some(
                self.words
                    .next()
                    .ok_or(ParseError::MissingValue(spelling))?,
            ),
        };
        let value = Value {
            option: spelling,
            text,
        };
        Ok(Token::Option(option, value))
    }
}

impl<'a, A: 'static, I: Iterator<Item = &'a str>> Iterator for Lexer<'a, A, I> {
    type Item = Result<Token<'a, A>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bundle = std::mem::take(&mut self.bundle);
        if !bundle.is_empty() {
            return Some(self.short(bundle));
        }
        let word = self.words.next()?;
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
                let lexer = tokens(crate::ipvsadm::OPTIONS, Dialect::Popt, &words);
                let tokens = lexer.take(text.len() + 2).count();
                proptest::prop_assert!(tokens <= text.len() + 1);
            }
        }
    }
}
