//! Error of criteria that are not a filter.

/// Reason for which a filter is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFilter {
    /// It has no criterion.
    #[error("no filter is given; every flow would be deleted")]
    Everything,
    /// No flow could match it.
    #[error("the addresses are not all of one family")]
    Families,
}
