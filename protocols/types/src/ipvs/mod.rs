//! IPVS: services, servers, sync daemons, settings, and the rule table as a value.

mod change;
mod daemon;
mod label;
mod listed;
mod server;
mod service;
mod sysctl;
mod table;
mod target;

pub use change::{Change, RestoreMode, RestoreProgress, Restored, RuleLine};
pub use daemon::{Daemon, McastGroup, Role, SyncLen, Timeouts};
pub use label::{Engine, Scheduler, ShortName, SyncLink};
pub use listed::{Connection, Detail, ListedServer, ListedService, Peer, Stats, Status};
pub use server::{Checksum, Forward, NonNegativeInt, Server, ServerId, ServerRule, Tunnel};
pub use service::{
    AddrPort, Family, Netmask, Persistence, Protocol, SchedFlags, Scheduling, Service, ServiceId,
    ServiceRule,
};
pub use sysctl::{Reading, Setting, Sysctl, SysctlValue};
pub use table::{BadFile, Conflict, Deferred, MaxRules, Step, Table, TooManyRules};
pub use target::{ConnectionCount, DrainProgress, ServerFilter, ServiceFilter, Target};
