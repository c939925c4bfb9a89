//! Numbers of repetitions.

/// Numbers of repetitions, by kind of row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of everything that is repeated in new guests.
    pub(crate) rounds: usize,
    /// Rounds of the row that takes half a minute.
    pub(crate) large_rounds: usize,
    /// Rounds of plugging thirty cards.
    pub(crate) card_rounds: usize,
    /// Pods with a machine at once.
    pub(crate) pods: usize,
    /// Repetitions, in one guest, of commands that take milliseconds.
    pub(crate) repeats: usize,
    /// Restores in the row of memory.
    pub(crate) restores: usize,
}

impl Plan {
    /// For published numbers.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        large_rounds: 3,
        card_rounds: 4,
        pods: 30,
        repeats: 30,
        restores: 100,
    };

    /// Under five minutes.
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        large_rounds: 1,
        card_rounds: 2,
        pods: 8,
        repeats: 12,
        restores: 20,
    };
}
