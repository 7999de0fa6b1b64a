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

/// How many looks in a row must find a checkpoint that is past the window and does not move. One that moves is on its
/// way back, and stopping it would make a loss out of a delay.
const LOOKS_PAST_MAX: u32 = 2;

pub(super) struct Gauge {
    config: SourceConfig,
    tables: Vec<TableName>,
    acknowledged: watch::Receiver<Position>,
    received: watch::Sender<Received>,
    session: Option<Session>,
    ttl: Option<(Ttl, Instant)>,
    level: GcLevel,
    /// The checkpoint at the last look that found it past the window, and how many looks found it there.
    past: Option<(Position, u32)>,
}

impl Gauge {
    pub(super) fn new(
        config: SourceConfig,
        acknowledged: watch::Receiver<Position>,
        received: watch::Sender<Received>,
    ) -> Self {
        let tables = config.tables.iter().map(|table| table.table.name.clone()).collect();
        let level = GcLevel::Normal;
        Gauge { config, tables, acknowledged, received, session: None, ttl: None, level, past: None }
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
        let age = age_seconds(&checkpoint, now);
        let window = GcWindow { ttl_seconds: ttl.seconds, ttl_assumed: ttl.assumed, age_seconds: age };
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
        if level != GcLevel::Past {
            self.past = None;
            return None;
        }
        // Far behind, and still on the way to the first resolved timestamp: the checkpoint cannot have moved yet.
        let catching_up = self.received.borrow().resolved.is_none();
        let looks = match &self.past {
            Some((before, looks)) if *before == checkpoint && !catching_up => looks + 1,
            _ => 1,
        };
        if looks >= LOOKS_PAST_MAX {
            return Some(gc::checkpoint_passed(&self.config.name, &checkpoint, window, now));
        }
        self.past = Some((checkpoint, looks));
        None
    }
}

fn age_seconds(checkpoint: &Position, now: Hlc) -> u64 {
    let at = checkpoint.hlc().unwrap_or_default();
    now.wall.saturating_sub(at.wall) / 1_000_000_000
}
