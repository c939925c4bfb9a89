//! Seeded random numbers: a test prints its seed, and `PATCHBAY_SEED=N` repeats the run.

use fastrand::Rng;

/// Environment variable with the seed to use in place of random ones.
const SEED: &str = "PATCHBAY_SEED";

/// Returns `count` random seeds, or that of `PATCHBAY_SEED` alone.
pub fn seeds(count: usize) -> Vec<u64> {
    std::env::var(SEED).map_or_else(
        |_| (0..count).map(|_| fastrand::u64(..)).collect(),
        |seed| vec![seed.parse().unwrap()],
    )
}

/// Creates a generator from a seed, which it prints.
pub fn seeded_rng(seed: u64) -> Rng {
    eprintln!("{SEED}={seed}");
    Rng::with_seed(seed)
}

/// Creates a generator from a seed of [`seeds`].
pub fn rng() -> Rng {
    seeded_rng(seeds(1)[0])
}
