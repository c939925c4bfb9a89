//! Waits for states that come about by themselves.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// Time until a state has come about, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `read` returns the expected value.
#[track_caller]
pub fn await_value<T: PartialEq + Debug>(expected: &T, mut read: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = read();
        if found == *expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?} instead of {expected:?}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}
