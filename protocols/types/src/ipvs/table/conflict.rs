//! Errors of rule files.

use crate::failure::{Failure, Kind};
use crate::ipvs::{Role, ServerId, ServiceId};

/// Conflict with the table, found before the kernel is involved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Service added twice.
    #[error("the service {0} exists")]
    ServiceExists(ServiceId),
    /// Service that doesn't exist.
    #[error("there is no service {0}")]
    NoService(ServiceId),
    /// Server added twice.
    #[error("the service {0} has the server {1} already")]
    ServerExists(ServiceId, ServerId),
    /// Server that doesn't exist.
    #[error("the service {0} has no server {1}")]
    NoServer(ServiceId, ServerId),
    /// Sync daemon started twice.
    #[error("the {} sync daemon is started already", .0.name())]
    DaemonStarted(Role),
}

impl Conflict {
    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::ServiceExists(_) | Self::ServerExists(..) | Self::DaemonStarted(_) => {
                Kind::Exists
            }
            Self::NoService(_) | Self::NoServer(..) => Kind::NotFound,
        }
    }
}

/// Maximum number of services and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxRules(pub u32);

impl MaxRules {
    /// Checks a number of rules.
    ///
    /// # Errors
    /// A number above the limit.
    pub fn check(self, rules: usize) -> Result<(), TooManyRules> {
        let limit = usize::try_from(self.0).unwrap_or(usize::MAX);
        if rules > limit {
            return Err(TooManyRules { rules, limit });
        }
        Ok(())
    }
}

/// Number of rules above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rules} rules exceed the limit of {limit}; --max-rules raises it")]
pub struct TooManyRules {
    /// Number of services and servers.
    pub rules: usize,
    /// Limit.
    pub limit: usize,
}

/// Reason for which a rule file is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// Line that conflicts with earlier ones.
    #[error("line {line}: {conflict}")]
    Conflict {
        /// Line number, starting at 1.
        line: u32,
        /// Conflict.
        conflict: Conflict,
    },
    /// Too many rules.
    #[error(transparent)]
    TooMany(#[from] TooManyRules),
}

impl From<BadFile> for Failure {
    fn from(bad: BadFile) -> Self {
        let kind = match bad {
            BadFile::Conflict { conflict, .. } => conflict.kind(),
            BadFile::TooMany(_) => Kind::Invalid,
        };
        Failure::new(kind, bad.to_string())
    }
}
