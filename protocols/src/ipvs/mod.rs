//! IPVS: the domain types, ipvsadm's grammar, and what the kernel lists.
//!
//! Words become a [`Command`] once, on the host; the agent never sees option text.

mod assemble;
mod command;
mod daemon;
mod error;
mod grammar;
mod label;
mod listed;
mod matrix;
mod numbers;
mod options;
mod restore;
mod save;
mod server;
mod service;
mod sysctl;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod words;

pub use command::{
    Change, Command, Digits, EngineData, Format, Names, Order, RestoreMode, Restored, TableView,
    View,
};
pub use daemon::{Daemon, McastGroup, Role, SyncLen, Timeouts};
pub use error::{Refused, Spelling};
pub use grammar::{Grammar, parse};
pub use label::{Engine, Label, Scheduler, SyncLink};
pub use listed::{Connection, Detail, ListedServer, ListedService, Peer, Stats, Status};
pub use numbers::{NoNames, Resolver, inet_aton};
pub use options::help;
pub use restore::{BadLine, Line, read_rules};
pub use save::{
    Completeness, EndpointText, flag_names, netmask, numeric, server_line, service_line,
};
pub use server::{Checksum, Count31, Forward, Server, ServerId, ServerRule, Tunnel};
pub use service::{
    Endpoint, Family, Netmask, Persistence, Protocol, SchedFlags, Scheduling, Service, ServiceId,
    ServiceRule,
};
pub use sysctl::{Reading, Setting, Sysctl, SysctlValue};
pub use table::{Afterwards, BadFile, Clash, MaxRules, Step, Table, TooManyRules};
pub use words::{Unbalanced, split};
