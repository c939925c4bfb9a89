//! Numbers that look random and are the same for the same seed.

use std::time::SystemTime;

/// xorshift64.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// By a seed from [`Dice::seeds`].
    pub fn new() -> Self {
        Self::seeded(Self::seeds(1)[0])
    }

    /// `PATCHBAY_SEED` alone, or so many that come from the clock.
    pub fn seeds(count: u64) -> Vec<u64> {
        if let Ok(given) = std::env::var("PATCHBAY_SEED") {
            return vec![given.parse().unwrap()];
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let first = u64::from(now.subsec_nanos());
        // Zero would roll zeros for ever.
        (0..count)
            .map(|at| (first + at * 0x9e37_79b9) | 1)
            .collect()
    }

    /// The seed is printed, so that a run can be repeated.
    pub fn seeded(seed: u64) -> Self {
        eprintln!("PATCHBAY_SEED={seed}");
        Self(seed)
    }

    /// Other dice, for one of several threads: what they show depends on the seed and the number.
    #[must_use]
    pub fn fork(&self, number: usize) -> Self {
        let mut seed = self.0;
        for _ in 0..=number {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}
