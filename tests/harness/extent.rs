//! The extent of a test run: `make test` takes a sample, `make test-full` sets `PATCHBAY_FULL=1`.

/// How much of their possible cases sweeps and random tests take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A random sample, which is another one in each run.
    Sample,
    /// All cases of a sweep, and long random runs.
    Full,
}

impl Extent {
    /// Returns the extent of this run.
    pub fn of_run() -> Self {
        if std::env::var_os("PATCHBAY_FULL").is_some() {
            Self::Full
        } else {
            Self::Sample
        }
    }
}

/// Numbers of cases for each extent.
#[derive(Debug, Clone, Copy)]
pub struct Cases {
    /// Number in a sample.
    pub sample: usize,
    /// Number in a full run.
    pub full: usize,
}

impl Cases {
    /// Returns the number of cases of this run.
    pub fn count(self) -> usize {
        match Extent::of_run() {
            Extent::Sample => self.sample,
            Extent::Full => self.full,
        }
    }
}
