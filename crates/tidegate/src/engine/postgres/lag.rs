//! How long ago a stream's position was the end of its source's log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate_model::Lsn;

/// How far apart two remembered ends of the log are.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How many are remembered: an hour. A lag longer than that is shown as at least that.
const SAMPLES_MAX: usize = 7_200;

/// Remembers where the end of the log was, so that a position can be told as an age.
#[derive(Debug, Default)]
pub struct LagClock {
    ends: VecDeque<(Instant, Lsn)>,
}

impl LagClock {
    /// Notes the end of the log.
    pub fn note(&mut self, end: Lsn, now: Instant) {
        if self.ends.back().is_some_and(|(at, last)| now - *at < SAMPLE_EVERY || *last >= end) {
            return;
        }
        if self.ends.len() == SAMPLES_MAX {
            self.ends.pop_front();
        }
        self.ends.push_back((now, end));
    }

    /// Returns for how long the log has been past `position`; zero if it is not.
    pub fn age(&mut self, position: Lsn, now: Instant) -> Duration {
        while self.ends.front().is_some_and(|(_, end)| *end <= position) {
            self.ends.pop_front();
        }
        self.ends.front().map_or(Duration::ZERO, |(at, _)| now - *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_as_old_as_the_first_end_past_it() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut lag = LagClock::default();
        for n in 0..10 {
            lag.note(Lsn(100 + n), second(n));
        }
        assert_eq!(lag.age(Lsn(104), second(10)), Duration::from_secs(5));
        assert_eq!(lag.age(Lsn(109), second(10)), Duration::ZERO);
        lag.note(Lsn(109), second(60));
        assert_eq!(lag.age(Lsn(109), second(60)), Duration::ZERO);
    }
}
