//! The cluster's clock and the age of the checkpoint, looked at beside the stream.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Hlc, Position, Problem, TableName};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Received, SourceConfig};
use crate::gc::{self, GcLevel, GcWindow, Ttl};
use crate::history;

pub(super) struct Gauge {
    config: SourceConfig,
    tables: Vec<TableName>,
    acknowledged: watch::Receiver<Position>,
    received: watch::Sender<Received>,
    session: Option<Session>,
    ttl: Option<(Ttl, Instant)>,
    level: GcLevel,
    stall: Stall,
}

/// For how long a checkpoint past the window has stood still. One that moves is on its way back, and so is one behind
/// which rows are being written; stopping then would make a loss out of a delay.
#[derive(Debug, Default)]
struct Stall {
    /// Where a stream began that was past the window already: that the server took this cursor is its own word that it
    /// has everything, and if it has not, it says so.
    taken_by_server: Option<Position>,
    /// Whether anything was looked at.
    looked: bool,
    /// Where the checkpoint and the work at the target stand, and since when.
    still: Option<(Position, u64, Instant)>,
}

impl Stall {
    /// Takes a look at the checkpoint and returns for how long it has been lost.
    fn look(&mut self, past: bool, checkpoint: &Position, work: u64, now: Instant) -> Duration {
        if past && !self.looked {
            self.taken_by_server = Some(checkpoint.clone());
        }
        self.looked = true;
        if !past || self.taken_by_server.as_ref() == Some(checkpoint) {
            self.still = None;
            return Duration::ZERO;
        }
        match &self.still {
            Some((at, done, since)) if at == checkpoint && *done == work => now.duration_since(*since),
            _ => {
                self.still = Some((checkpoint.clone(), work, now));
                Duration::ZERO
            }
        }
    }
}

impl Gauge {
    pub(super) fn new(
        config: SourceConfig,
        acknowledged: watch::Receiver<Position>,
        received: watch::Sender<Received>,
    ) -> Self {
        let tables = config.tables.iter().map(|table| table.table.name.clone()).collect();
        let level = GcLevel::Normal;
        Gauge { config, tables, acknowledged, received, session: None, ttl: None, level, stall: Stall::default() }
    }

    /// Looks until the checkpoint has fallen out of the window. A server that cannot be asked is no reason to stop: the
    /// stream tells about it.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Problem {
        let mut tick = interval(self.config.gauge_every.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(looked) = stop.run_until_cancelled(self.look()).await else {
                // The reader ends the stream.
                return std::future::pending().await;
            };
            match looked {
                Ok(Some(problem)) => return problem,
                Ok(None) => {}
                Err(problem) => {
                    debug!(error = %problem, "checkpoint age not measured");
                    self.session = None;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Option<Problem>, Problem> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                // What the server was told meanwhile is not known.
                self.ttl = None;
                Session::connect(&self.config.settings, &self.config.application_name("gauge")).await?
            }
        };
        let now = history::now(&session).await?;
        let ttl = self.ttl(&session).await?;
        self.session = Some(session);
        let checkpoint = self.acknowledged.borrow().clone();
        let window = ttl.window(&checkpoint, now);
        self.received.send_modify(|received| {
            received.now = Some(now);
            received.gc = Some(window);
        });
        Ok(self.judge(&window, checkpoint, now))
    }

    async fn ttl(&mut self, session: &Session) -> Result<Ttl, Problem> {
        match self.ttl {
            Some((ttl, read_at)) if read_at.elapsed() < self.config.ttl_every => Ok(ttl),
            _ => {
                let ttl = Ttl::shortest(session, &self.tables).await?;
                if ttl.assumed && self.ttl.is_none() {
                    info!(ttl_seconds = ttl.seconds, "the server does not tell how long it keeps history: assuming");
                }
                self.ttl = Some((ttl, Instant::now()));
                Ok(ttl)
            }
        }
    }

    fn judge(&mut self, window: &GcWindow, checkpoint: Position, now: Hlc) -> Option<Problem> {
        let level = window.level();
        if level != self.level {
            let (age_seconds, ttl_seconds) = (window.age_seconds, window.ttl_seconds);
            match level {
                GcLevel::Normal => info!(age_seconds, ttl_seconds, "the checkpoint is well inside the gc window again"),
                GcLevel::Half => warn!(age_seconds, ttl_seconds, "half of the gc window is used: the target lags"),
                GcLevel::Past => warn!(age_seconds, ttl_seconds, %checkpoint, "the checkpoint is past the gc window"),
            }
            self.level = level;
        }
        let past = level == GcLevel::Past;
        let stalled = self.stall.look(past, &checkpoint, (self.config.work)(), Instant::now());
        // Still on the way to the first resolved timestamp: the checkpoint cannot have moved yet.
        let begun = self.received.borrow().resolved.is_some();
        let lost = past && begun && stalled >= self.config.stalled_max;
        lost.then(|| gc::checkpoint_passed(&self.config.name, &checkpoint, window, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64) -> Position {
        Position::cockroach(Hlc { wall, logical: 0 })
    }

    #[test]
    fn only_a_target_that_does_nothing_has_lost_its_checkpoint() {
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert_eq!(stall.look(false, &at(1), 0, second(0)), Duration::ZERO);
        assert_eq!(stall.look(true, &at(1), 0, second(10)), Duration::ZERO, "just now");
        assert_eq!(stall.look(true, &at(1), 0, second(25)), Duration::from_secs(15));
        assert_eq!(stall.look(true, &at(1), 5_000, second(40)), Duration::ZERO, "rows are written");
        assert_eq!(stall.look(true, &at(1), 5_000, second(45)), Duration::from_secs(5));
        assert_eq!(stall.look(true, &at(2), 5_000, second(50)), Duration::ZERO, "it has moved");
        assert_eq!(stall.look(false, &at(3), 5_000, second(90)), Duration::ZERO);
    }

    #[test]
    fn a_start_behind_the_window_is_left_to_the_server() {
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        for seconds in [0, 100, 10_000] {
            assert_eq!(stall.look(true, &at(1), 0, second(seconds)), Duration::ZERO);
        }
        assert_eq!(stall.look(true, &at(2), 0, second(10_001)), Duration::ZERO);
        assert_eq!(stall.look(true, &at(2), 0, second(10_041)), Duration::from_secs(40), "that was its chance");
    }
}
