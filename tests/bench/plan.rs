//! How much is measured.

/// Numbers of repetitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Of everything that can be repeated in fresh guests.
    pub(crate) rounds: usize,
    /// Of what takes half a minute.
    pub(crate) large_rounds: usize,
    /// Of thirty cards plugged twice.
    pub(crate) card_rounds: usize,
    /// Of commands that take milliseconds, in one guest.
    pub(crate) repeats: usize,
    /// Restores in the row about memory.
    pub(crate) restores: usize,
}

impl Plan {
    /// For numbers that are to be quoted.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        large_rounds: 3,
        card_rounds: 4,
        repeats: 30,
        restores: 100,
    };

    /// Under five minutes.
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        large_rounds: 1,
        card_rounds: 2,
        repeats: 12,
        restores: 20,
    };
}
