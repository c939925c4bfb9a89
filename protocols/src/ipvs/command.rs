//! What a line of ipvsadm's words asks for, holding only what is legal.

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

/// How addresses and ports are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// `-n`
    Numeric,
    /// By the names that the host's files have for them.
    Resolved,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By number.
    Sorted,
    /// `--nosort`: as the kernel has them.
    Kernel,
}

/// Which columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Forwarding, weight, connections.
    Rules,
    /// `--tun-info`
    Tunnels,
    /// `--stats`
    Stats,
    /// `--rate`
    Rates,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    Persistence,
}

/// How large numbers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digits {
    /// In thousands, millions and so on.
    Short,
    /// `--exact`
    Exact,
}

/// A table to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableView {
    /// One service alone.
    pub service: Option<ServiceId>,
    /// Columns.
    pub format: Format,
    /// Order.
    pub order: Order,
    /// Names or numbers.
    pub names: Names,
    /// Large numbers.
    pub digits: Digits,
}

/// Whether connections show what their persistence engine knows of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineData {
    /// `--persistent-conn`
    Shown,
    /// Not asked for.
    Hidden,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// `-L`
    Table(TableView),
    /// `-L -c`
    Connections(Names, EngineData),
    /// `-L --timeout`
    Timeouts,
    /// `-L --daemon`
    Daemons,
    /// `-S`
    Save(Names),
}

/// One line of ipvsadm's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Changes the table.
    Change(Change),
    /// Shows something.
    View(View),
    /// `-R`: what follows on standard input.
    Restore,
    /// `-h`
    Help,
    /// `-v`
    Version,
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
