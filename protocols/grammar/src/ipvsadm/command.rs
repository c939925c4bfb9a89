//! What a line of ipvsadm's words asks for, holding only what is legal.

use patchbay_types::ipvs::{Change, ServiceId};

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
pub enum CounterFormat {
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
    pub digits: CounterFormat,
}

/// Whether connections show what their persistence engine knows of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineColumns {
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
    Connections(Names, EngineColumns),
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
