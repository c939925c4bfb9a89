//! The declaration of one option of ipvsadm.

use std::num::NonZeroU16;

use patchbay_types::ipvs::ShortName;

use super::command::IpvsCommand;
use super::compat::{CommandName, Group};
use super::saved_rule::SavedRule;
use super::values::Values;
use crate::ParseError;
use crate::option::{OptionSpec, Value, ValueKind};
use crate::spelling::Spelling;

pub(super) type IpvsOption = OptionSpec<Action>;

/// Effect of an option.
#[derive(Clone, Copy)]
pub(crate) struct Action {
    /// Set if the option is a command, which must be the first on a line.
    pub(super) command: Option<(CommandName, Build)>,
    /// Commands that take the option; all if empty.
    pub(super) commands: &'static [CommandName],
    pub(super) group: Group,
    pub(super) apply: Apply,
    /// Returns the value for a saved line, or `None` if the line leaves the option out.
    pub(super) print: Print,
}

pub(super) type Build = fn(&Values<'_>, Spelling) -> Result<IpvsCommand, ParseError>;
pub(super) type Print = fn(&SavedRule<'_>) -> Option<String>;
pub(super) type Parse = for<'a> fn(&mut Values<'a>, Value<'a>) -> Result<(), ParseError>;

/// Function that stores an option's value in [`Values`].
#[derive(Clone, Copy)]
pub(super) enum Apply {
    Flag(fn(&mut Values<'_>)),
    Value(Parse),
}

pub(super) const NUMBER: ValueKind = ValueKind::Required("N");
pub(super) const NAME: ValueKind = ValueKind::Required("NAME");
pub(super) const ADDRESS: ValueKind = ValueKind::Required("ADDRESS[:PORT]");

pub(super) const ADDRESS_RULE: &str = "an address is a.b.c.d[:port], [v6]:port, v6 or host[:port], with a port of 0 to 65535 or a name from the host's files";

/// An option without a value that sets something.
pub(super) const fn flag(
    short: &'static str,
    long: &'static str,
    help: &'static str,
    set: fn(&mut Values<'_>),
) -> IpvsOption {
    let action = Action {
        command: None,
        commands: &[],
        group: Group::Single,
        apply: Apply::Flag(set),
        print: |_| None,
    };
    IpvsOption::new(short, long, ValueKind::None, help, action)
}

/// An option whose parser can fail.
pub(super) const fn option(
    short: &'static str,
    long: &'static str,
    value: ValueKind,
    help: &'static str,
    parse: Parse,
) -> IpvsOption {
    let mut option = flag(short, long, help, |_| ());
    option.value = value;
    option.action.apply = Apply::Value(parse);
    option
}

impl IpvsOption {
    pub(super) const fn on(mut self, commands: &'static [CommandName]) -> Self {
        self.action.commands = commands;
        self
    }

    pub(super) const fn group(mut self, group: Group) -> Self {
        self.action.group = group;
        self
    }

    pub(super) const fn print(mut self, print: Print) -> Self {
        self.action.print = print;
        self
    }
}

/// Parses a name that is cut to the kernel's limit, as ipvsadm does.
pub(super) fn name<const MAX: usize>(value: Value<'_>) -> Result<ShortName<MAX>, ParseError> {
    ShortName::cut(value.text()).map_err(|bad| value.in_option(bad))
}

pub(super) fn udp_port(value: Value<'_>) -> Result<NonZeroU16, ParseError> {
    let rule = "a UDP port is 1 to 65535";
    NonZeroU16::new(value.number(rule)?).ok_or_else(|| value.invalid(rule))
}
