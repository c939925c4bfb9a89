//! Moment at which a sandbox is reconciled.

use std::time::{Duration, Instant};

/// Time without a notification before a change is handled: programs make a link, its addresses and its routes
/// one after another, within milliseconds. It is less than the time in which a card is plugged.
const QUIET: Duration = Duration::from_millis(30);
/// Longest delay while notifications keep coming.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// First pause after a failure; each is twice as long as that before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Debounced notifications, and retries after failures.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// First notification that is not handled yet.
    first: Option<Instant>,
    due: Option<Instant>,
    pause: Option<Duration>,
    /// End of the pause.
    not_before: Option<Instant>,
}

impl Timing {
    /// Sets the moment to now.
    pub(super) fn request(&mut self, now: Instant) {
        self.succeed();
        self.due = Some(now);
    }

    /// Sets the moment after a notification.
    pub(super) fn notify(&mut self, now: Instant) {
        let first = *self.first.get_or_insert(now);
        let due = (now + QUIET).min(first + MAX_DELAY);
        let due = self.not_before.map_or(due, |end| due.max(end));
        // One that is due already stays so.
        self.due = Some(match self.due {
            Some(earlier) if earlier <= now => earlier,
            _ => due,
        });
    }

    /// Returns the moment.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns whether the moment has come; if so, later notifications are for the next one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.first = None;
        }
        is_due
    }

    /// Sets the moment of the next attempt; notifications can come before it.
    pub(super) fn retry(&mut self, now: Instant) {
        let pause = self.next_pause();
        self.due.get_or_insert(now + pause);
    }

    /// Sets the moment of the next attempt, before which notifications have no effect: those of an attempt
    /// that was undone would cause the next one.
    pub(super) fn back_off(&mut self, now: Instant) {
        self.pause(now);
        self.due = self.not_before;
    }

    /// Delays the attempt that the next notification causes.
    pub(super) fn pause(&mut self, now: Instant) {
        let end = now + self.next_pause();
        self.not_before = Some(end);
        self.due = self.due.map(|due| due.max(end));
    }

    /// Forgets earlier failures.
    pub(super) fn succeed(&mut self) {
        self.pause = None;
        self.not_before = None;
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| pause * 2);
        let pause = pause.min(MAX_PAUSE);
        self.pause = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn notifications_are_handled_once_they_are_quiet() {
        let start = Instant::now();
        let mut timing = Timing::default();
        assert!(!timing.take(start));
        timing.notify(start);
        timing.notify(after(start, 20));
        assert!(!timing.take(after(start, 40)));
        assert!(timing.take(after(start, 50)));
        assert_eq!(timing.due(), None);
    }

    #[test]
    fn notifications_without_end_are_handled_too() {
        let start = Instant::now();
        let mut timing = Timing::default();
        for milliseconds in (0..2000).step_by(20) {
            timing.notify(after(start, milliseconds));
        }
        assert_eq!(timing.due(), Some(after(start, 1000)));
    }

    #[test]
    fn failures_are_repeated_ever_less_often() {
        let start = Instant::now();
        let mut timing = Timing::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            timing.back_off(start);
            timing.notify(start);
            let due = timing.due().unwrap();
            pauses.push((due - start).as_secs());
            assert!(timing.take(due));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        timing.request(start);
        assert!(timing.take(start));
        timing.pause(start);
        assert_eq!(timing.due(), None);
        timing.notify(start);
        assert_eq!(timing.due(), Some(after(start, 1000)));
    }

    #[test]
    fn retry_gives_way_to_notifications() {
        let start = Instant::now();
        let mut timing = Timing::default();
        timing.retry(start);
        assert_eq!(timing.due(), Some(after(start, 1000)));
        timing.notify(start);
        assert_eq!(timing.due(), Some(after(start, 30)));
    }
}
