//! Changes of the rule table.

use super::{Daemon, Role, Server, ServerId, Service, ServiceId, Timeouts};

/// A change of the table of services and servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `-A`
    AddService(Service),
    /// `-E`: whatever is not said falls back to its default.
    EditService(Service),
    /// `-D`
    DeleteService(ServiceId),
    /// `-C`
    Clear,
    /// `-a`
    AddServer(ServiceId, Server),
    /// `-e`: whatever is not said falls back to its default.
    EditServer(ServiceId, Server),
    /// `-d`
    DeleteServer(ServiceId, ServerId),
    /// `-Z`: counters of one service, or of all.
    Zero(Option<ServiceId>),
    /// `--set`
    SetTimeouts(Timeouts),
    /// `--start-daemon`
    StartDaemon(Daemon),
    /// `--stop-daemon`
    StopDaemon(Role),
}

impl Change {
    /// The one service that changes, or whose servers do.
    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Self::AddService(service) | Self::EditService(service) => Some(service.id),
            Self::DeleteService(id)
            | Self::AddServer(id, _)
            | Self::EditServer(id, _)
            | Self::DeleteServer(id, _) => Some(*id),
            Self::Clear
            | Self::Zero(_)
            | Self::SetTimeouts(_)
            | Self::StartDaemon(_)
            | Self::StopDaemon(_) => None,
        }
    }
}

/// A change, and the line on which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: u32,
    /// What it asks for.
    pub change: Change,
}

/// What becomes of the rules that are there before a rule file is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// There may be none.
    Empty,
    /// Those that the file does not name go; those that it does are not touched.
    Replace,
    /// They stay, and what the file names becomes what it says.
    Merge,
}

/// How much a rule file changed; services and servers count alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// New ones.
    pub added: u32,
    /// Ones that became different.
    pub edited: u32,
    /// Ones that went.
    pub deleted: u32,
}
