//! Requirements of plugging, as `examine` reports them.

use serde::Serialize;

/// Requirement of plugging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// Name.
    pub part: &'static str,
    /// Impact of its absence.
    #[serde(rename = "cost")]
    pub impact: &'static str,
}
