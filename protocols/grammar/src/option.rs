//! The declaration of an option, shared by both grammars.

use std::fmt::Write as _;

use patchbay_types::InvalidValue;

use crate::ParseError;
use crate::parse_num;
use crate::spelling::Spelling;

/// Number of values of an option, with the placeholder for help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    None,
    Required(&'static str),
    /// Taken from the next word only if that does not begin with `-`.
    Optional(&'static str),
}

/// One option; `action` is the part that differs between the grammars.
#[derive(Clone, Copy)]
pub(crate) struct OptionSpec<A> {
    pub(crate) spelling: Spelling,
    pub(crate) value: ValueKind,
    pub(crate) help: &'static str,
    pub(crate) action: A,
}

impl<A> OptionSpec<A> {
    pub(crate) const fn new(
        short: &'static str,
        long: &'static str,
        value: ValueKind,
        help: &'static str,
        action: A,
    ) -> Self {
        let spelling = Spelling {
            short,
            long,
            alias: None,
        };
        Self {
            spelling,
            value,
            help,
            action,
        }
    }
}

/// The options of a grammar, in groups.
pub(crate) type OptionTable<A> = &'static [&'static [OptionSpec<A>]];

/// An option on a command line, with its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) option: Spelling,
    pub(crate) text: Option<&'a str>,
}

impl<'a> Value<'a> {
    /// The text, empty if the option has none.
    pub(crate) fn text(self) -> &'a str {
        self.text.unwrap_or_default()
    }

    pub(crate) fn invalid(self, rule: &'static str) -> ParseError {
        self.in_option(InvalidValue::new(self.text(), rule))
    }

    /// Shows the whole text, of which `invalid` can have a part.
    pub(crate) fn in_option(self, invalid: InvalidValue) -> ParseError {
        let invalid = invalid.shown_as(self.text());
        ParseError::Value(invalid.in_field(self.option.to_string()))
    }

    /// Parses a decimal number and converts it to the type whose range it must be in.
    pub(crate) fn number<T: TryFrom<u32>>(self, rule: &'static str) -> Result<T, ParseError> {
        parse_num::unsigned(self.text())
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.invalid(rule))
    }
}

/// One line of help per option.
pub(crate) fn help<A>(options: &[&[OptionSpec<A>]]) -> String {
    let mut help = String::new();
    for option in options.iter().copied().flatten() {
        let Spelling { short, long, alias } = option.spelling;
        let letter = short.chars().next();
        let letter = letter.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let value = match option.value {
            ValueKind::None => String::new(),
            ValueKind::Required(name) => format!(" {name}"),
            ValueKind::Optional(name) => format!(" [{name}]"),
        };
        let alias = alias.map_or_else(String::new, |alias| format!(", --{alias}"));
        let words = format!("{letter}--{long}{alias}{value}");
        // Writing to a String can't fail.
        let _ = writeln!(help, "  {words:<36}{}", option.help);
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_unique<A>(options: OptionTable<A>) {
        let mut seen = std::collections::HashSet::new();
        for Spelling { short, long, alias } in options.iter().copied().flatten().map(|o| o.spelling)
        {
            let words = [Some(long), alias].into_iter().flatten().map(str::to_owned);
            for word in words.chain(short.chars().map(String::from)) {
                assert!(seen.insert(word.clone()), "{word}");
            }
        }
        let count = options.iter().map(|group| group.len()).sum::<usize>();
        assert_eq!(help(options).lines().count(), count);
    }

    #[test]
    fn option_spellings_are_unique() {
        assert_unique(crate::ipvsadm::OPTIONS);
        assert_unique(crate::conntrack::OPTIONS);
    }
}
