//! Virtual clock and random bytes of the processes.

use fastrand::Rng;
use nix::libc;

use crate::memory::SECOND;

/// Clock of the simulation, which advances only by its own doing.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Nanoseconds since the begin.
    now: u64,
    /// Random bytes of the processes.
    pub(crate) entropy: Rng,
}

/// Time of the realtime clock at the begin.
const EPOCH: u64 = 1_700_000_000 * SECOND;
/// Time of the other clocks at the begin.
const UPTIME: u64 = 1_000 * SECOND;
/// Time between two readings: QEMU's ids contain microseconds.
const READING: u64 = 1_000;

impl Clock {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: 0,
            entropy: Rng::with_seed(seed),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Advances the clock to a later time.
    pub(crate) fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
    }

    /// Reads a clock of the kernel.
    pub(crate) fn read(&mut self, clock: u64) -> u64 {
        self.now += READING;
        self.now + offset(clock)
    }

    /// Converts a time of a clock of the kernel.
    pub(crate) fn absolute(clock: u64, time: u64) -> u64 {
        time.saturating_sub(offset(clock))
    }
}

fn offset(clock: u64) -> u64 {
    let realtime = [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE].map(i64::from);
    if realtime.contains(&clock.cast_signed()) {
        EPOCH
    } else {
        UPTIME
    }
}
