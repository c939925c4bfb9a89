//! IPVS: the domain types, ipvsadm's grammar, and what the kernel lists.
//!
//! Words become a [`Command`] once, on the host; the agent never sees option text.

mod assemble;
mod command;
mod error;
mod grammar;
mod matrix;
mod numbers;
mod options;
mod restore;
mod save;
#[cfg(test)]
mod testing;
mod words;

pub use command::{Command, CounterFormat, EngineColumns, Format, Names, Order, TableView, View};
pub use error::{Refused, Spelling};
pub use grammar::{Grammar, parse};
pub use numbers::{NoNames, Resolver, inet_aton};
pub use options::help;
pub use restore::{BadLine, read_rules};
pub use save::{EndpointText, SaveFormat, flag_names, netmask, numeric, server_line, service_line};
pub use words::{Unbalanced, split};
