//! Compatibility of options with commands and with each other.

/// Commands, as the `commands` of an option list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandName {
    AddService,
    EditService,
    DeleteService,
    Clear,
    List,
    AddServer,
    EditServer,
    DeleteServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    Help,
    Version,
}

impl CommandName {
    /// Number of words that the command takes besides options.
    pub(super) fn max_words(self) -> usize {
        match self {
            Self::Set => 3,
            Self::Help | Self::Version => usize::MAX,
            _ => 0,
        }
    }
}

/// Group of options that exclude each other or those of another group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Compatible with all other options.
    Single,
    /// The same, and can be repeated.
    Repeatable,
    /// `-t`, `-u`, `--sctp-service`, `-f`.
    Service,
    /// `-c`
    Connections,
    /// `--timeout`, `--daemon`.
    Status,
    /// `--stats`, `--rate`, `--thresholds`.
    Counters,
    /// `--persistent-conn`
    EngineData,
    /// `-g`, `-i`, `-m`.
    Forwarding,
    /// `--tun-nocsum`, `--tun-csum`, `--tun-remcsum`.
    Checksum,
}

impl Group {
    pub(super) fn excludes(self, other: Self) -> bool {
        use Group::{Checksum, Connections, Counters, EngineData, Forwarding, Service, Status};
        match self {
            Service => matches!(other, Service | Connections | Status),
            Connections => matches!(other, Counters | Status),
            Status => matches!(other, Status | Counters | EngineData),
            Forwarding | Checksum => self == other,
            _ => false,
        }
    }
}
