//! Numbers of queue pairs.

use std::fmt;
use std::num::NonZeroU16;

use super::InvalidValue;

/// Number of receive and transmit queue pairs of a card: 1 to 256 (`MAX_TAP_QUEUES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePairs(NonZeroU16);

impl QueuePairs {
    /// A card without multi-queue.
    pub const ONE: QueuePairs = QueuePairs(NonZeroU16::MIN);

    /// Returns the number of pairs.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u64> for QueuePairs {
    type Error = InvalidValue;

    fn try_from(pairs: u64) -> Result<Self, InvalidValue> {
        u16::try_from(pairs)
            .ok()
            .filter(|pairs| *pairs <= 256)
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or_else(|| InvalidValue::new(&pairs.to_string(), "a card has 1 to 256 queue pairs"))
    }
}

impl fmt::Display for QueuePairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_pairs_range_is_exact() {
        for pairs in [1, 5, 256] {
            assert_eq!(u64::from(QueuePairs::try_from(pairs).unwrap().get()), pairs);
        }
        for pairs in [0, 257, 65_537, u64::MAX] {
            let error = QueuePairs::try_from(pairs).unwrap_err().to_string();
            assert!(error.contains("1 to 256"), "{error}");
        }
    }
}
