//! What a rule file may not say.

use crate::failure::{Failure, Kind};
use crate::ipvs::{ServerId, ServiceId};

/// What contradicts the table, found before any kernel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Added twice.
    #[error("the service {0} exists")]
    ServiceExists(ServiceId),
    /// Edited, deleted or named, and not there.
    #[error("there is no service {0}")]
    NoService(ServiceId),
    /// Added twice.
    #[error("the service {0} has the server {1} already")]
    ServerExists(ServiceId, ServerId),
    /// Edited or deleted, and not there.
    #[error("the service {0} has no server {1}")]
    NoServer(ServiceId, ServerId),
    /// Not part of the table.
    #[error("only changes of services, servers and timeouts can be restored")]
    NoRule,
}

impl Conflict {
    /// What sort of failure it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::ServiceExists(_) | Self::ServerExists(..) => Kind::Exists,
            Self::NoService(_) | Self::NoServer(..) => Kind::NotFound,
            Self::NoRule => Kind::Invalid,
        }
    }
}

/// How many services and servers there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxRules(pub u32);

impl MaxRules {
    /// Checks a number of rules.
    ///
    /// # Errors
    /// There are more.
    pub fn check(self, rules: usize) -> Result<(), TooManyRules> {
        let limit = usize::try_from(self.0).unwrap_or(usize::MAX);
        if rules > limit {
            return Err(TooManyRules { rules, limit });
        }
        Ok(())
    }
}

/// More rules than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rules} rules exceed the limit of {limit}; --max-rules raises it")]
pub struct TooManyRules {
    /// Services and servers that there would be.
    pub rules: usize,
    /// How many there may be.
    pub limit: usize,
}

/// Why a rule file makes no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// A line contradicts those before.
    #[error("line {line}: {conflict}")]
    Conflict {
        /// Counted from 1.
        line: u32,
        /// What.
        conflict: Conflict,
    },
    /// There are too many.
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
