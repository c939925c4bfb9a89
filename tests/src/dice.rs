//! Numbers that look random and are the same for the same seed.

use std::time::SystemTime;

/// xorshift64.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The seed is `PATCHBAY_SEED`, or the clock's; it is printed, so that a run can be repeated.
    pub fn new() -> Self {
        let given = std::env::var("PATCHBAY_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
                u64::from(now.subsec_nanos()) | 1
            },
            |text| text.parse().unwrap(),
        );
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
