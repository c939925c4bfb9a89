//! A command line while it is parsed. Values are checked in order, since some depend on those
//! before them.

use patchbay_types::ipvs::{Daemon, Forward, ServiceId};

use super::compat::{self, CommandName};
use super::options::{self, Apply, IpvsOption, LIST, ServerArgs, ServiceArgs};
use super::{IpvsCommand, TableView, View};
use crate::option::{Spelling, Value};
use crate::{ParseError, Resolver};

/// Parameters of the grammar.
#[derive(Debug, Clone, Copy)]
pub struct Grammar<'n> {
    /// Names of hosts and ports.
    pub names: &'n dyn Resolver,
    /// Forwarding method of a server for which the line has none.
    pub forward: Forward,
}

/// Values of the options so far, by option group.
pub(super) struct Args<'a> {
    pub(super) grammar: Grammar<'a>,
    command: Option<&'static IpvsOption>,
    seen: Vec<&'static IpvsOption>,
    /// Words that are not options or their values.
    pub(super) words: Vec<&'a str>,
    pub(super) id: Option<ServiceId>,
    pub(super) service: ServiceArgs<'a>,
    pub(super) server: ServerArgs,
    pub(super) view: fn(TableView) -> View,
    pub(super) table: TableView,
    pub(super) daemon: Daemon,
}

impl<'a> Args<'a> {
    pub(super) fn new(grammar: Grammar<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            grammar,
            command: None,
            seen: Vec::new(),
            words: Vec::new(),
            id: None,
            service: ServiceArgs::default(),
            server: ServerArgs::default(),
            view: View::Table,
            table: TableView::default(),
            daemon: options::default_daemon()?,
        })
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
                compat::check(&self.seen, option)?;
                self.seen.push(option);
            }
        }
        match option.action.apply {
            Apply::Flag(set) => {
                set(self);
                Ok(())
            }
            Apply::Value(parse) => parse(self, value),
        }
    }

    pub(super) fn ignores_rest(&self) -> bool {
        let command = self.command.and_then(|option| option.action.command);
        matches!(command, Some((CommandName::Help | CommandName::Version, _)))
    }

    /// Checks the line as a whole and builds the command.
    pub(super) fn finish(self) -> Result<IpvsCommand, ParseError> {
        let command = match self.command {
            None if self.words.is_empty() => &LIST,
            command => command.ok_or(ParseError::NoCommand)?,
        };
        let (name, build) = command.action.command.ok_or(ParseError::NoCommand)?;
        if let Some(word) = self.words.get(name.max_words()) {
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
            None => build(&self, command.spelling),
        }
    }

    pub(super) fn service_id(&self, command: Spelling) -> Result<ServiceId, ParseError> {
        let needed = "a service: -t, -u, --sctp-service or -f";
        self.id.ok_or(ParseError::Needs(command, needed))
    }
}
