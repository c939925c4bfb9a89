//! The options of ipvsadm 1.31, each declared once: spellings, value, help, permitted commands,
//! parser and, for those of a rule, printer.

mod commands;
mod daemon;
mod server;
mod service;
mod view;

pub(super) use commands::LIST;
pub(super) use daemon::default_daemon;
pub(super) use server::ServerArgs;
pub(super) use service::ServiceArgs;

use std::num::NonZeroU16;

use patchbay_types::ipvs::ShortName;

use super::IpvsCommand;
use super::args::Args;
use super::compat::{CommandName, Group};
use super::save::SavedRule;
use crate::ParseError;
use crate::option::{OptionSpec, OptionTable, Spelling, Value, ValueKind};

pub(super) type IpvsOption = OptionSpec<Action>;

/// Every option.
pub(crate) static OPTIONS: OptionTable<Action> = &[
    commands::OPTIONS,
    service::OPTIONS,
    server::OPTIONS,
    view::OPTIONS,
    daemon::OPTIONS,
];

/// Options in a saved line, in ipvsadm's order.
pub(super) static SAVED: OptionTable<Action> = &[service::OPTIONS, server::OPTIONS];

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

pub(super) type Build = fn(&Args<'_>, Spelling) -> Result<IpvsCommand, ParseError>;
pub(super) type Print = fn(&SavedRule<'_>) -> Option<String>;
type Parse = for<'a> fn(&mut Args<'a>, Value<'a>) -> Result<(), ParseError>;

/// Function that stores an option's value in [`Args`].
#[derive(Clone, Copy)]
pub(super) enum Apply {
    Flag(fn(&mut Args<'_>)),
    Value(Parse),
}

const NUMBER: ValueKind = ValueKind::Required("N");
const NAME: ValueKind = ValueKind::Required("NAME");
const ADDRESS: ValueKind = ValueKind::Required("ADDRESS[:PORT]");

const ADDRESS_RULE: &str = "an address is a.b.c.d[:port], [v6]:port, v6 or host[:port], with a port of 0 to 65535 or a name from the host's files";

/// An option without a value that sets something.
const fn flag(
    short: &'static str,
    long: &'static str,
    help: &'static str,
    set: fn(&mut Args<'_>),
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
const fn option(
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
    const fn on(mut self, commands: &'static [CommandName]) -> Self {
        self.action.commands = commands;
        self
    }

    const fn group(mut self, group: Group) -> Self {
        self.action.group = group;
        self
    }

    const fn print(mut self, print: Print) -> Self {
        self.action.print = print;
        self
    }
}

/// Parses a name that is cut to the kernel's limit, as ipvsadm does.
fn name<const MAX: usize>(value: Value<'_>) -> Result<ShortName<MAX>, ParseError> {
    ShortName::cut(value.text()).map_err(|bad| value.in_option(bad))
}

fn default_name<const MAX: usize>(option: &str, text: &str) -> Result<ShortName<MAX>, ParseError> {
    let name = text.parse::<ShortName<MAX>>();
    name.map_err(|bad| ParseError::Value(bad.in_field(option)))
}

fn udp_port(value: Value<'_>) -> Result<NonZeroU16, ParseError> {
    let rule = "a UDP port is 1 to 65535";
    NonZeroU16::new(value.number(rule)?).ok_or_else(|| value.invalid(rule))
}
