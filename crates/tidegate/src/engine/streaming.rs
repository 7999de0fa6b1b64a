//! The stream: source, pipeline and applier put together, and what is shown of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_model::{Position, Problem, TableFilter, TableRoute, Timestamp};
use tidegate_pipeline::{BatchLimits, Pipeline, Progress};
use tidegate_source_postgres::{History, PostgresSource, Received, SourceConfig};
use tidegate_sql::applier::{ApplierConfig, ApplyProgress, PostgresApplier};
use tidegate_sql::requests::serve_drains;
use tidegate_sql::state;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Ended;
use super::lag::LagClock;
use super::start::Stream;
use super::watch::{TableWatch, wal_budget};
use crate::status::StreamState;

const SHOW_EVERY: Duration = Duration::from_millis(250);
/// The pause before foreign keys are tried again that could not be restored.
const RESTORE_AGAIN: Duration = Duration::from_secs(10);

/// What the parts of a running stream say of themselves.
struct Views {
    pipeline: watch::Receiver<Progress>,
    applier: watch::Receiver<ApplyProgress>,
    source: watch::Receiver<Received>,
    spooled_bytes: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Stream<'_> {
    /// Streams from `position` until told to stop.
    pub(super) async fn stream(
        &self,
        position: Position,
        history: History,
        routes: Vec<TableRoute>,
    ) -> Result<Ended, Problem> {
        let caught_up_at = highest_point(&position, &routes);
        let tables = self.table_watch(&history, &routes)?;
        let config = ApplierConfig {
            settings: self.ends.target.clone(),
            lease: self.lease().clone(),
            batches_in_flight_max: self.limits().in_flight_max,
        };
        let applier = PostgresApplier::start(config, position.clone(), routes).await?;
        let source = PostgresSource::start(self.source_config(), position.clone(), history).await?;
        info!(%position, "streaming");
        let (applied, source_view) = (applier.progress(), source.received());
        let spooled_bytes = Box::new(source.spooled_bytes());
        let mut pipeline = Pipeline::new(source, applier, position, self.limits());
        let views = Views { pipeline: pipeline.progress(), applier: applied, source: source_view, spooled_bytes };

        let stop = self.stop.child_token();
        let ended = tokio::select! {
            ended = pipeline.run(stop.clone()) => ended,
            never = self.show(&views, &caught_up_at) => match never {},
            never = self.serve(&views) => match never {},
            never = self.finish_copy(&views, &caught_up_at) => match never {},
            never = self.end_when_wished(&views, &stop) => match never {},
            changed = tables.watch(self.board) => Err(changed),
        };
        let ended = ended?;
        pipeline.into_source().close().await;
        self.board.change(|status| status.applied_position = Some(ended.applied.to_string()));
        info!(applied = %ended.applied, clean = ended.clean, "stream ended");
        Ok(Ended { applied: Some(ended.applied) })
    }

    fn limits(&self) -> BatchLimits {
        let (options, defaults) = (&self.migration.pipeline, BatchLimits::default());
        let interval = |chosen: Option<crate::config::Interval>, default| chosen.map_or(default, |interval| interval.0);
        BatchLimits {
            bytes_max: options.batch_bytes_max.map_or(defaults.bytes_max, |bytes| bytes.0),
            transactions_max: options.batch_transactions_max.unwrap_or(defaults.transactions_max),
            in_flight_max: options.batches_in_flight_max.unwrap_or(defaults.in_flight_max),
            flush_after: interval(options.flush_after, defaults.flush_after),
            idle_checkpoint_every: interval(options.idle_checkpoint_every, defaults.idle_checkpoint_every),
            ..defaults
        }
    }

    fn source_config(&self) -> SourceConfig {
        let options = &self.migration.pipeline;
        let mut config = SourceConfig::new(self.ends.source.clone(), self.migration.name.clone());
        config.spool_dir = options.spool_dir.clone().unwrap_or(config.spool_dir);
        config.spool_bytes_max = options.spool_bytes_max.map(|bytes| bytes.0);
        config.memory_budget_bytes = options.memory_budget.map_or(config.memory_budget_bytes, |bytes| bytes.0);
        config.heartbeat_every = options.heartbeat_every.map(|interval| interval.0);
        config.wal_budget = wal_budget(self.migration);
        let (settings, lease) = (self.ends.target.clone(), self.lease().clone());
        config.on_new_history = Some(Arc::new(move |history: History| {
            let (settings, lease) = (settings.clone(), lease.clone());
            Box::pin(async move {
                let role = lease.key.migration.application_name("history");
                let session = tidegate_connect::Session::connect(&settings, &role).await?;
                let stored = serde_json::to_value(&history).expect("a history is plain data");
                state::store_history(&session, &lease, &stored).await
            })
        }));
        config
    }

    fn table_watch(&self, history: &History, routes: &[TableRoute]) -> Result<TableWatch, Problem> {
        let migration = self.migration;
        let identity = |route: &TableRoute| (route.map.source.id, route.map.source.name.clone());
        let carried = routes.iter().map(identity).collect();
        Ok(TableWatch {
            settings: self.ends.source.clone(),
            name: migration.name.clone(),
            filter: TableFilter::new(&migration.tables, &migration.exclude, &migration.state_schema)?,
            history: history.clone(),
            carried,
        })
    }

    async fn show(&self, views: &Views, caught_up_at: &Position) -> std::convert::Infallible {
        let mut lag = LagClock::default();
        loop {
            let pipeline = views.pipeline.borrow().clone();
            let applier = views.applier.borrow().clone();
            let source = views.source.borrow().clone();
            let received = pipeline.received.lsn().unwrap_or_default();
            let now = Instant::now();
            let end = source.wal.as_ref().map(|wal| wal.end.max(received));
            if let Some(end) = end {
                lag.note(end, now);
            }
            self.board.change(|status| {
                status.state =
                    if pipeline.applied < *caught_up_at { StreamState::CatchingUp } else { StreamState::Streaming };
                status.source_position = end.map(|end| Position::postgres(end).to_string());
                status.received_position = Some(pipeline.received.to_string());
                status.applied_position = Some(applier.applied.to_string());
                status.source_lag_bytes = end.map(|end| end.0 - received.0);
                status.source_lag_seconds = Some(lag.age(received, now).as_secs_f64());
                status.apply_lag_seconds = Some(pipeline.oldest_waiting.map_or(0.0, seconds_since));
                status.retained_wal_bytes = source.wal.as_ref().map(|wal| wal.bytes());
                status.waiting_for = applier.retrying.or(source.waiting_for);
                status.transactions = pipeline.transactions;
                status.spooled_bytes = (views.spooled_bytes)();
            });
            tokio::time::sleep(SHOW_EVERY).await;
        }
    }

    async fn serve(&self, views: &Views) -> std::convert::Infallible {
        let applied = watch::Sender::new(views.pipeline.borrow().applied.clone());
        let mut pipeline = views.pipeline.clone();
        let (settings, lease) = (self.ends.target.clone(), self.lease().clone());
        let follow = async {
            while pipeline.changed().await.is_ok() {
                let now = pipeline.borrow_and_update().applied.clone();
                applied.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
            }
        };
        // Neither ends while the pipeline runs.
        tokio::join!(follow, serve_drains(settings, lease, applied.subscribe(), CancellationToken::new()));
        std::future::pending().await
    }

    /// Once the stream is past the highest point at which a table was copied, foreign keys hold again.
    async fn finish_copy(&self, views: &Views, caught_up_at: &Position) -> std::convert::Infallible {
        let mut pipeline = views.pipeline.clone();
        if pipeline.wait_for(|progress| progress.applied >= *caught_up_at).await.is_ok() {
            info!("caught up: from here on every commit at the target is a state that the source once had");
            let target = self.copy_target();
            while let Err(problem) = target.restore_foreign_keys().await {
                warn!(error = %problem, "the target's foreign keys are not restored yet");
                tokio::time::sleep(RESTORE_AGAIN).await;
            }
        }
        std::future::pending().await
    }

    async fn end_when_wished(&self, views: &Views, stop: &CancellationToken) -> std::convert::Infallible {
        if let Some(until) = &self.wishes.until {
            let mut pipeline = views.pipeline.clone();
            if pipeline.wait_for(|progress| progress.applied >= *until).await.is_ok() {
                stop.cancel();
            }
        }
        std::future::pending().await
    }
}

/// Returns the position from which on the target is a state of the source: past it no table's copy is ahead of the stream.
fn highest_point(start: &Position, routes: &[TableRoute]) -> Position {
    let later = |one: Position, other: &Position| if *other > one { other.clone() } else { one };
    routes.iter().map(|route| &route.from).fold(start.clone(), later)
}

fn seconds_since(committed_at: Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ((now.as_micros() as i64 - committed_at.0) as f64 / 1e6).max(0.0)
}
