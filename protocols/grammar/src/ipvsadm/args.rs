//! A command line while it is parsed. Values are checked in order, since some depend on those
//! before them.

use super::command::IpvsCommand;
use super::compat::{CommandName, Group};
use super::options::LIST;
use super::spec::{Apply, IpvsOption};
use super::values::{Grammar, Values};
use crate::ParseError;
use crate::option::Value;

/// A command line so far.
pub(super) struct Args<'a> {
    command: Option<&'static IpvsOption>,
    seen: Vec<&'static IpvsOption>,
    values: Values<'a>,
}

impl<'a> Args<'a> {
    pub(super) fn new(grammar: Grammar<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            command: None,
            seen: Vec::new(),
            values: Values::new(grammar)?,
        })
    }

    pub(super) fn word(&mut self, word: &'a str) {
        self.values.words.push(word);
    }

    pub(super) fn option(
        &mut self,
        option: &'static IpvsOption,
        value: Value<'a>,
    ) -> Result<(), ParseError> {
        match (option.action.command, self.command) {
            (Some(_), Some(_)) => return Err(ParseError::NotFirst(option.spelling)),
            (Some(_), None) => self.command = Some(option),
            (None, None) => return Err(ParseError::NoCommand),
            (None, Some(_)) => {
                check(&self.seen, option)?;
                self.seen.push(option);
            }
        }
        match option.action.apply {
            Apply::Flag(set) => {
                set(&mut self.values);
                Ok(())
            }
            Apply::Value(parse) => parse(&mut self.values, value),
        }
    }

    pub(super) fn ignores_rest(&self) -> bool {
        let command = self.command.and_then(|option| option.action.command);
        matches!(command, Some((CommandName::Help | CommandName::Version, _)))
    }

    /// Checks the line as a whole and builds the command.
    pub(super) fn finish(self) -> Result<IpvsCommand, ParseError> {
        let command = match self.command {
            None if self.values.words.is_empty() => &LIST,
            command => command.ok_or(ParseError::NoCommand)?,
        };
        let (name, build) = command.action.command.ok_or(ParseError::NoCommand)?;
        if let Some(word) = self.values.words.get(name.max_words()) {
            return Err(ParseError::argument(word));
        }
        let refused = self.seen.iter().find(|option| {
            let commands = option.action.commands;
            !commands.is_empty() && !commands.contains(&name)
        });
        match refused {
            Some(option) => {
                let command = command.spelling.to_string();
                Err(ParseError::NotTaken(command, option.spelling))
            }
            None => build(&self.values, command.spelling),
        }
    }
}

/// Refuses an option that the options before it exclude.
pub(super) fn check(
    seen: &[&'static IpvsOption],
    option: &'static IpvsOption,
) -> Result<(), ParseError> {
    let group = option.action.group;
    for before in seen {
        if std::ptr::eq(*before, option) && group != Group::Repeatable {
            return Err(ParseError::Repeated(option.spelling));
        }
        if group.excludes(before.action.group) || before.action.group.excludes(group) {
            return Err(ParseError::Conflict(before.spelling, option.spelling));
        }
    }
    Ok(())
}
