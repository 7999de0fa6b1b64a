//! What the slot keeps back at the source, measured beside the stream; and the heartbeat.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::{Received, SourceConfig};
use crate::problem;
use crate::wal::{self, RetainedWal, WalLevel};

/// How often the WAL that is kept back is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The WAL budget is spent.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) retained: RetainedWal,
    pub(super) budget: u64,
}

pub(super) struct Gauge {
    config: SourceConfig,
    slot: String,
    received: watch::Sender<Received>,
    session: Option<Session>,
    level: WalLevel,
    beat_at: Instant,
}

impl Gauge {
    pub(super) fn new(config: SourceConfig, slot: String, received: watch::Sender<Received>) -> Self {
        Gauge { config, slot, received, session: None, level: WalLevel::Normal, beat_at: Instant::now() }
    }

    /// Measures until the budget is spent. A server that cannot be asked is no reason to stop: the stream tells about
    /// it.
    pub(super) async fn run(mut self) -> Spent {
        let mut tick = interval(self.config.heartbeat_every.map_or(MEASURE_EVERY, |every| every.min(MEASURE_EVERY)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.measure().await {
                Ok(Some(spent)) => return spent,
                Ok(None) => {}
                Err(problem) => {
                    debug!(error = %problem, "retained wal not measured");
                    self.session = None;
                }
            }
        }
    }

    async fn measure(&mut self) -> Result<Option<Spent>, Problem> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.config.settings, &self.config.name.application_name("gauge")).await?,
        };
        self.beat(&session).await?;
        let retained = wal::measure(&session, &self.slot).await?;
        self.session = Some(session);
        Ok(retained.and_then(|retained| self.judge(retained)))
    }

    async fn beat(&mut self, session: &Session) -> Result<(), Problem> {
        let Some(every) = self.config.heartbeat_every else { return Ok(()) };
        if self.beat_at.elapsed() < every {
            return Ok(());
        }
        self.beat_at = Instant::now();
        // Not on a standby, where nothing can be written and somebody else's writes move the stream.
        let sql = "SELECT CASE WHEN NOT pg_is_in_recovery()
                          THEN pg_logical_emit_message(true, 'tidegate', 'heartbeat') END";
        session.query(sql, &[]).await.map_err(|error| problem::sql("emitting a heartbeat", error))?;
        Ok(())
    }

    fn judge(&mut self, retained: RetainedWal) -> Option<Spent> {
        let level = self.config.wal_budget.level(&retained);
        let budget = self.config.wal_budget.bytes(retained.keep_size_bytes_max);
        if level != self.level {
            let (slot, retained_bytes, budget_bytes) = (&self.slot, retained.bytes(), budget.unwrap_or(0));
            match level {
                WalLevel::Normal => info!(slot, retained_bytes, budget_bytes, "retained wal is back to normal"),
                WalLevel::Half => warn!(slot, retained_bytes, budget_bytes, "half of the wal budget is used"),
                WalLevel::Spent => warn!(slot, retained_bytes, budget_bytes, "the wal budget is spent"),
            }
            self.level = level;
        }
        let before = self.received.borrow().wal.as_ref().and_then(|wal| wal.status.clone());
        if retained.status != before && retained.status.as_deref() == Some("unreserved") {
            warn!(slot = self.slot, "the server will remove wal that the slot needs at its next checkpoint");
        }
        self.received.send_modify(|received| {
            received.wal = Some(retained.clone());
            received.wal_level = level;
        });
        budget.filter(|_| level == WalLevel::Spent).map(|budget| Spent { retained, budget })
    }
}
