//! Parsed command lines, which can't represent an illegal one.

use patchbay_types::ipvs::{Change, ServiceId};

/// Presentation of addresses and ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// `-n`
    Numeric,
    /// Names from the host's files.
    #[default]
    Resolved,
}

/// Order of services and servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By address as a number.
    #[default]
    Sorted,
    /// `--nosort`: the kernel's.
    Kernel,
}

/// Columns of the table. If a line has several such options, the smallest of these wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `--stats`
    Stats,
    /// `--rate`
    Rates,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    Persistence,
    /// `--tun-info`
    Tunnels,
    /// Forwarding method, weight, connections.
    #[default]
    Rules,
}

/// Presentation of large numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CounterFormat {
    /// With a unit: K, M, G or T.
    #[default]
    Short,
    /// `--exact`
    Exact,
}

/// View of the rule table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableView {
    /// The only service to show.
    pub service: Option<ServiceId>,
    /// Columns.
    pub format: Format,
    /// Order.
    pub order: SortOrder,
    /// Addresses and ports.
    pub names: Names,
    /// Large numbers.
    pub digits: CounterFormat,
}

/// Command that reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// `-L`
    Table(TableView),
    /// `-L -c`; [`Format::Persistence`] adds the columns of the persistence engine.
    Connections(TableView),
    /// `-L --timeout`
    Timeouts,
    /// `-L --daemon`
    Daemons,
    /// `-S`
    Save(Names),
}

/// A command line of ipvsadm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpvsCommand {
    /// Changes the table.
    Change(Change),
    /// Prints a view.
    View(View),
    /// `-R`: applies the rule file on standard input.
    Restore,
    /// `-h`
    Help,
    /// `-v`
    Version,
}

impl From<Change> for IpvsCommand {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}
