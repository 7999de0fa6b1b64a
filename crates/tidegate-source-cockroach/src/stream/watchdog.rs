//! When a feed has been silent for too long.
//!
//! A feed without resolved timestamps may have lost a part of itself inside the server. But one that begins far back
//! sends rows for minutes before it can resolve any time, and a new connection would begin that again. So each
//! connection that never resolved anything makes the next one wait twice as long.

use std::time::Duration;

use tokio::time::Instant;

/// How often the patience may double: from one minute to about an hour.
const DOUBLINGS_MAX: u32 = 6;

#[derive(Debug)]
pub(super) struct Watchdog {
    silence_max: Duration,
    /// Connections in a row that were given up before they resolved anything.
    fruitless: u32,
    resolved_once: bool,
    heard_at: Instant,
}

impl Watchdog {
    pub(super) fn new(silence_max: Duration, now: Instant) -> Self {
        Watchdog { silence_max, fruitless: 0, resolved_once: false, heard_at: now }
    }

    /// A connection begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.resolved_once = false;
        self.heard_at = now;
    }

    /// A resolved timestamp came.
    pub(super) fn resolved(&mut self, now: Instant) {
        self.fruitless = 0;
        self.resolved_once = true;
        self.heard_at = now;
    }

    /// Nothing was read since then, and that was our own doing.
    pub(super) fn paused(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Returns how long the feed may be silent now.
    pub(super) fn patience(&self) -> Duration {
        self.silence_max.saturating_mul(1 << self.fruitless.min(DOUBLINGS_MAX))
    }

    /// Returns when it will have been silent for too long.
    pub(super) fn deadline(&self) -> Instant {
        self.heard_at + self.patience()
    }

    /// It was too long.
    pub(super) fn give_up(&mut self) {
        if !self.resolved_once {
            self.fruitless += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_resolves_nothing_is_given_more_time_next_time() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let mut dog = Watchdog::new(minute, start);
        assert_eq!(dog.deadline(), start + minute);
        for doubled in 1..=8_u32 {
            dog.give_up();
            dog.begin(start);
            assert_eq!(dog.deadline(), start + minute * (1 << doubled.min(6)));
        }
        dog.resolved(start + minute);
        assert_eq!(dog.deadline(), start + minute * 2);
        dog.give_up();
        dog.begin(start);
        assert_eq!(dog.patience(), minute, "it had resolved something");
    }

    #[test]
    fn silence_of_our_own_making_does_not_count() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Duration::from_secs(60), start);
        dog.paused(start + Duration::from_secs(50));
        assert_eq!(dog.deadline(), start + Duration::from_secs(110));
    }
}
