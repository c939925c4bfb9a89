//! The options of ipvsadm 1.31, each declared once: spellings, value, help, permitted commands,
//! parser and, for those of a rule, printer.

mod commands;
mod daemon;
mod server;
mod service;
mod view;

pub(super) use commands::LIST;

use super::spec::Action;
use crate::option::OptionTable;

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
