//! When resolved timestamps are sent, and which.
//!
//! As in CockroachDB a timestamp is closed some seconds after its time, and feeds hear of it at intervals: between
//! half of `standin.resolved_lag` and all of it a resolved timestamp is behind.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::options::Options;
use crate::history::Hlc;
use crate::knobs::Knobs;

/// Default of `min_checkpoint_frequency`.
const MIN_CHECKPOINT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Cadence {
    wanted: bool,
    /// Least advance between two resolved messages.
    every: Duration,
    /// Least time between two.
    apart: Duration,
    /// Times up to which everything was read from the log, and when.
    delivered: VecDeque<(Instant, Hlc)>,
    closed: Hlc,
    refresh_at: Instant,
    sent: Hlc,
    sent_at: Option<Instant>,
}

impl Cadence {
    /// `start`: a resolved timestamp at or below it is never sent.
    pub fn new(options: &Options, start: Hlc, now: Instant) -> Cadence {
        Cadence {
            wanted: options.resolved.is_some(),
            every: options.resolved.unwrap_or_default(),
            apart: options.min_checkpoint_frequency.unwrap_or(MIN_CHECKPOINT),
            delivered: VecDeque::new(),
            closed: start,
            refresh_at: now,
            sent: start,
            sent_at: None,
        }
    }

    /// How long a feed may sleep between looks at the log.
    pub fn pause(knobs: &Knobs) -> Duration {
        (knobs.resolved_lag / 4).clamp(Duration::from_millis(2), Duration::from_millis(15))
    }

    /// Everything up to `position` was read from the log. Returns the timestamp to send, if one is due.
    pub fn due(&mut self, position: Hlc, knobs: &Knobs, now: Instant) -> Option<Hlc> {
        if !self.wanted {
            return None;
        }
        let half = knobs.resolved_lag / 2;
        self.delivered.push_back((now, position));
        if now >= self.refresh_at {
            let old_enough = |at: &Instant| now.duration_since(*at) >= half + knobs.delay_resolved;
            while self.delivered.front().is_some_and(|(at, _)| old_enough(at)) {
                let (_, position) = self.delivered.pop_front().expect("there is a front");
                self.closed = self.closed.max(position);
            }
            self.refresh_at = now + half;
        }
        let advanced = self.closed > self.sent && self.closed.since(self.sent) >= self.every;
        let rested = self.sent_at.is_none_or(|at| now.duration_since(at) >= self.apart);
        (advanced && rested).then(|| self.mark(self.closed, now))
    }

    /// At a change of the schema the time just before it is resolved at once. Returns it if it is news.
    pub fn boundary(&mut self, at: Hlc, now: Instant) -> Option<Hlc> {
        (self.wanted && at > self.sent).then(|| self.mark(at, now))
    }

    fn mark(&mut self, at: Hlc, now: Instant) -> Hlc {
        self.closed = self.closed.max(at);
        self.sent = at;
        self.sent_at = Some(now);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::options::read;
    use crate::knobs::Knobs;

    fn knobs() -> Knobs {
        Knobs {
            duplicates: 0.0,
            reorder: false,
            drop_connections: None,
            delay_resolved: Duration::ZERO,
            resolved_lag: Duration::from_secs(6),
            retry_errors: 0.0,
            ambiguous_commits: 0.0,
            slow: Duration::ZERO,
            gc_threshold: None,
        }
    }

    /// Runs an idle feed for a while and returns (seconds since its start, seconds behind) of each resolved.
    fn idle(given: &[(&str, &str)], seconds: u64) -> Vec<(u64, f64)> {
        let given: Vec<_> =
            given.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()).filter(|v| !v.is_empty()))).collect();
        let begin = Instant::now();
        let mut cadence = Cadence::new(&read(&given).unwrap(), Hlc(0), begin);
        let mut seen = Vec::new();
        for tick in 1..seconds * 50 {
            let passed = Duration::from_millis(tick * 20);
            let position = Hlc(i64::try_from(passed.as_nanos()).unwrap());
            if let Some(at) = cadence.due(position, &knobs(), begin + passed) {
                seen.push((passed.as_secs(), position.since(at).as_secs_f64()));
            }
        }
        seen
    }

    #[test]
    fn resolved_timestamps_are_three_to_six_seconds_behind() {
        let seen = idle(&[("resolved", "1s"), ("min_checkpoint_frequency", "1s")], 60);
        assert!(seen.len() > 15 && (3..=7).contains(&seen[0].0), "{seen:?}");
        assert!(seen.iter().all(|(_, behind)| (3.0..6.1).contains(behind)), "{seen:?}");
    }

    #[test]
    fn they_are_no_more_frequent_than_min_checkpoint_frequency() {
        let seen = idle(&[("resolved", "")], 100);
        assert!(seen.len() == 4 && seen.windows(2).all(|two| two[1].0 - two[0].0 >= 29), "{seen:?}");
    }

    #[test]
    fn without_the_option_there_are_none() {
        assert!(idle(&[], 60).is_empty());
    }
}
