//! The stream: source, pipeline and applier put together, and what is shown of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_model::{Batch, Position, Problem, TableRoute, Timestamp};
use tidegate_pipeline::{BatchLimits, Gate, Pipeline, Progress};
use tidegate_source_cockroach::Work;
use tidegate_sql::applier::{ApplierConfig, ApplyProgress, GIANT_TRANSACTION_BYTES, SqlApplier, TruncateAs};
use tidegate_sql::requests::serve;
use tidegate_verify::Touched;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::seat::Live;
use super::upstream::{Upstream, View};
use super::{Ended, Run};
use crate::status::StreamState;

const SHOW_EVERY: Duration = Duration::from_millis(250);
/// The pause before foreign keys are tried again that could not be restored.
const RESTORE_AGAIN: Duration = Duration::from_secs(10);

/// What the parts of a running stream say of themselves.
struct Views {
    pipeline: watch::Receiver<Progress>,
    applier: watch::Receiver<ApplyProgress>,
}

impl Run<'_> {
    /// Streams from `position` until told to stop.
    pub(super) async fn stream<U: Upstream>(
        &self,
        upstream: &U,
        begun: &U::Begun,
        position: Position,
        routes: Vec<TableRoute>,
    ) -> Result<Ended, Problem> {
        let (start, caught_up_at) = (position.clone(), highest_point(&position, &routes));
        let applier = SqlApplier::start(self.applier_config(), position.clone(), routes.clone()).await?;
        let (source, source_view) = upstream.source(self, begun, &position, &routes, work_of(&applier)).await?;
        info!(%position, stream = %self.flow.stream, "streaming");
        let applied = applier.progress();
        let touched = Arc::new(Mutex::new(Touched::new(routes.iter().map(|route| &route.map))));
        let noting = Arc::clone(&touched);
        let note = move |batch: &Batch| noting.lock().unwrap_or_else(PoisonError::into_inner).note(batch);
        let mut pipeline = Pipeline::new(source, applier, position, self.limits()).observed_by(Box::new(note));
        self.seat.note_live(Some(Live {
            handle: pipeline.handle(),
            start: start.clone(),
            routes: Arc::new(routes.clone()),
            caught_up_at: caught_up_at.clone(),
            touched,
            lease: self.lease().clone(),
        }));
        let views = Views { pipeline: pipeline.progress(), applier: applied };

        let stop = self.stop.child_token();
        let ended = tokio::select! {
            ended = pipeline.run(stop.clone()) => ended,
            never = self.show(&views, source_view, &caught_up_at) => match never {},
            never = self.serve() => match never {},
            never = self.finish_copy(&views, &caught_up_at) => match never {},
            never = self.end_when_wished(&views, &stop) => match never {},
            changed = upstream.watch_tables(begun, &routes, &self.seat.board) => Err(changed),
        };
        let ended = ended?;
        upstream.close(pipeline.into_source()).await;
        self.seat.board.change(|status| status.applied_position = Some(ended.applied.to_string()));
        info!(applied = %ended.applied, clean = ended.clean, stream = %self.flow.stream, "stream ended");
        Ok(Ended { applied: Some(ended.applied) })
    }

    fn applier_config(&self) -> ApplierConfig {
        let options = &self.flow.migration.pipeline;
        ApplierConfig {
            settings: self.flow.to().settings.clone(),
            lease: self.lease().clone(),
            batches_in_flight_max: self.limits().in_flight_max,
            giant_transaction_bytes: options.giant_transaction_bytes.map_or(GIANT_TRANSACTION_BYTES, |bytes| bytes.0),
            // TRUNCATE ends a changefeed.
            truncate_as: if self.both { TruncateAs::Delete } else { options.truncate_as.unwrap_or_default().into() },
            never_truncate: Arc::clone(&self.seat.read_back),
            // The stream the other way must know our writes, also one that is made later.
            mark: self.flow.from().session.is_cockroach(),
            arbitrate: Arc::clone(&self.seat.arbitrate),
        }
    }

    fn limits(&self) -> BatchLimits {
        let (options, defaults) = (&self.flow.migration.pipeline, BatchLimits::default());
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

    async fn show(&self, views: &Views, mut source: View, caught_up_at: &Position) -> std::convert::Infallible {
        loop {
            let pipeline = views.pipeline.borrow().clone();
            let applier = views.applier.borrow().clone();
            let reading = source(&pipeline.received);
            self.seat.board.change(|status| {
                let flowing =
                    if pipeline.applied < *caught_up_at { StreamState::CatchingUp } else { StreamState::Streaming };
                status.state = self.seat.at_rest(&pipeline.gate).unwrap_or(flowing);
                status.source_position = reading.end.map(|end| end.to_string());
                status.received_position = Some(pipeline.received.to_string());
                status.applied_position = Some(applier.applied.to_string());
                status.source_lag_bytes = reading.lag_bytes;
                status.source_lag_seconds = reading.lag_seconds;
                status.apply_lag_seconds = Some(pipeline.oldest_waiting.map_or(0.0, seconds_since));
                status.retained_wal_bytes = reading.retained_wal_bytes;
                status.history_seconds_left = reading.history_seconds_left;
                status.breaches = breaches(&pipeline, status.state);
                status.waiting_for = breach(status.breaches).or(applier.retrying).or(reading.waiting_for);
                status.transactions = pipeline.transactions;
                status.spooled_bytes = reading.spooled_bytes;
            });
            tokio::time::sleep(SHOW_EVERY).await;
        }
    }

    async fn serve(&self) -> std::convert::Infallible {
        let (settings, lease) = (self.flow.to().settings.clone(), self.lease().clone());
        let (answers, doers) = (self.wishes.answers.clone(), self.seat.requests.clone());
        serve(settings, lease, answers, doers, CancellationToken::new()).await;
        // It ends only when it is told to.
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

/// Returns what shows that an applier gets on, also in the middle of a transaction.
fn work_of(applier: &SqlApplier) -> Work {
    let progress = applier.progress();
    Arc::new(move || {
        let now = progress.borrow();
        now.rows + now.rows_uncommitted + now.giant.as_ref().map_or(0, |giant| giant.part)
    })
}

/// Returns the position from which on the target is a state of the source: past it no table's copy is ahead of the stream.
fn highest_point(start: &Position, routes: &[TableRoute]) -> Position {
    let later = |one: Position, other: &Position| if *other > one { other.clone() } else { one };
    routes.iter().map(|route| &route.from).fold(start.clone(), later)
}

/// Returns how many transactions of others wait on the side that is closed, or not open yet.
fn breaches(progress: &Progress, state: StreamState) -> u64 {
    let is_closed = matches!(state, StreamState::Armed | StreamState::Parked);
    if progress.gate == Gate::Parked && is_closed { progress.pending as u64 } else { 0 }
}

fn breach(count: u64) -> Option<String> {
    (count > 0)
        .then(|| format!("BREACH: {count} transactions of others on the side that is not open; they are not applied"))
}

fn seconds_since(committed_at: Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ((now.as_micros() as i64 - committed_at.0) as f64 / 1e6).max(0.0)
}
