//! Changes of the IPVS table.

use super::{Daemon, Role, Server, ServerId, Service, ServiceId, Timeouts};

/// Change of services, servers, timeouts or sync daemons, with its option of ipvsadm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `-A`
    AddService(Service),
    /// `-E`: fields that are not given get their defaults.
    EditService(Service),
    /// `-D`
    DeleteService(ServiceId),
    /// `-C`
    Clear,
    /// `-a`
    AddServer(ServiceId, Server),
    /// `-e`: fields that are not given get their defaults.
    EditServer(ServiceId, Server),
    /// `-d`
    DeleteServer(ServiceId, ServerId),
    /// `-Z`: zeroes the counters of one service, or of all.
    Zero(Option<ServiceId>),
    /// `--set`
    SetTimeouts(Timeouts),
    /// `--start-daemon`
    StartDaemon(Daemon),
    /// `--stop-daemon`
    StopDaemon(Role),
}

impl Change {
    /// Returns the service that changes, or whose servers change.
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

/// Change of a rule file, with its line number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleLine {
    /// Line number, starting at 1.
    pub number: u32,
    /// Change.
    pub change: Change,
}

/// Treatment of the existing rules when a rule file is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// The table must be empty.
    Empty,
    /// Rules that are not in the file are deleted, equal ones are not touched.
    Replace,
    /// Rules that are not in the file are kept.
    Merge,
}

/// Progress of a rule file in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Number of changes that the kernel has made.
    pub done: u32,
    /// Number of changes that the file makes.
    pub total: u32,
}

/// Numbers of services and servers that a rule file changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Added.
    pub added: u32,
    /// Edited.
    pub edited: u32,
    /// Deleted.
    pub deleted: u32,
}
