//! IPVS: services, servers, the sync daemons, and the rule table as a value.

mod change;
mod daemon;
mod label;
mod listed;
mod server;
mod service;
mod sysctl;
mod table;

pub use change::{Change, Line, RestoreMode, Restored};
pub use daemon::{Daemon, McastGroup, Role, SyncLen, Timeouts};
pub use label::{Engine, Label, Scheduler, SyncLink};
pub use listed::{Connection, Detail, ListedServer, ListedService, Peer, Stats, Status};
pub use server::{Checksum, Count31, Forward, Server, ServerId, ServerRule, Tunnel};
pub use service::{
    Endpoint, Family, Netmask, Persistence, Protocol, SchedFlags, Scheduling, Service, ServiceId,
    ServiceRule,
};
pub use sysctl::{Reading, Setting, Sysctl, SysctlValue};
pub use table::{Afterwards, BadFile, Clash, MaxRules, Step, Table, TooManyRules};
