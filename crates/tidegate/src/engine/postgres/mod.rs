//! PostgreSQL as what a stream reads: slot, publication, WAL.

mod before;
mod lag;
mod start;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tidegate_model::{Finding, Lsn, Position, Problem, TableFilter, TableRoute};
use tidegate_source_cockroach::Work;
use tidegate_source_postgres::check::{SLOT_OF_SOMEBODY, deferrable_findings, source_findings};
use tidegate_source_postgres::copy::{PostgresCopySource, ReadConfig};
use tidegate_source_postgres::{History, PostgresSource, SourceConfig, catalog, publication};
use tidegate_sql::check::WantedTable;
use tidegate_sql::copy::PlannedTable;
use tidegate_sql::state;

use super::upstream::{Listed, Reading, Start, Upstream, View, stored_history};
use super::{Before, Board, Flow, Run, Wishes};
use lag::LagClock;
pub use start::Begun;
use watch::{TableWatch, WalWatch, wal_budget};

/// A PostgreSQL database that a stream reads.
#[derive(Debug, Clone, Copy)]
pub struct Postgres<'a>(pub Flow<'a>);

impl Postgres<'_> {
    fn config(&self, run: &Run<'_>) -> SourceConfig {
        let options = &self.0.migration.pipeline;
        let mut config = SourceConfig::new(self.0.from().settings.clone(), self.0.migration.name.clone());
        config.spool_dir = options.spool_dir.clone().unwrap_or(config.spool_dir);
        config.spool_bytes_max = options.spool_bytes_max.map(|bytes| bytes.0);
        config.memory_budget_bytes = options.memory_budget.map_or(config.memory_budget_bytes, |bytes| bytes.0);
        config.heartbeat_every = options.heartbeat_every.map(|interval| interval.0);
        config.wal_budget = wal_budget(self.0.migration);
        // Nothing but the stream the other way marks its writes like that.
        config.drop_own = self.0.to().session.is_cockroach();
        let (settings, lease) = (self.0.to().settings.clone(), run.lease().clone());
        config.on_new_history = Some(Arc::new(move |history: History| {
            let (settings, lease) = (settings.clone(), lease.clone());
            Box::pin(async move {
                let role = lease.key.migration.application_name("history");
                let session = tidegate_connect::Session::connect(&settings, &role).await?;
                state::store_history(&session, &lease, &as_stored(&history)).await
            })
        }));
        config
    }
}

impl Upstream for Postgres<'_> {
    type Source = PostgresSource;
    type Copy = PostgresCopySource;
    type Begun = Begun;

    async fn findings(&self, filter: &TableFilter, wishes: &Wishes) -> Result<Vec<Finding>, Problem> {
        let mut findings = source_findings(&self.0.from().settings, &self.0.migration.name, filter).await?;
        if self.0.to().session.is_cockroach() {
            findings.extend(deferrable_findings(&self.0.from().session, filter).await);
        }
        findings.retain(|finding| !(wishes.recreate_slot && finding.code == SLOT_OF_SOMEBODY));
        Ok(findings)
    }

    async fn tables(&self, filter: &TableFilter) -> Result<Vec<Listed>, Problem> {
        let tables = catalog::list_tables(&self.0.from().session, filter).await?;
        let carried = tables.into_iter().filter(catalog::CatalogTable::is_carried);
        Ok(carried
            .map(|table| Listed {
                rows_estimated: table.rows_estimated.unwrap_or(0),
                bytes_estimated: table.bytes,
                wanted: WantedTable {
                    source: table.table,
                    primary_key: table.primary_key,
                    identity_whole: table.identity_whole,
                },
            })
            .collect())
    }

    async fn verify(&self, before: &Before, wishes: &Wishes) -> Result<(), Problem> {
        self.verify_before(before, wishes).await
    }

    async fn identity(&self) -> Result<Value, Problem> {
        Ok(as_stored(&self.history().await?))
    }

    async fn start(&self, run: &Run<'_>, planned: &[PlannedTable]) -> Result<Start<Begun>, Problem> {
        self.start_or_resume(run, planned).await
    }

    fn copy_source(&self, begun: &mut Begun) -> PostgresCopySource {
        let options = &self.0.migration.pipeline;
        let mut read = ReadConfig::default();
        read.chunk_bytes = options.copy_chunk_bytes.map_or(read.chunk_bytes, |bytes| bytes.0);
        read.lock_yield = options.copy_lock_yield.map_or(read.lock_yield, |interval| interval.0);
        let (settings, name) = (self.0.from().settings.clone(), self.0.migration.name.clone());
        PostgresCopySource::new(settings, name, read, begun.slot.take())
    }

    async fn watch_copy(&self, begun: &Begun, _at: &Position, board: &Board) -> Problem {
        let wal = WalWatch::new(self.0.from().settings.clone(), self.0.migration, begun.history.slot.clone());
        wal.watch(board).await
    }

    async fn source(
        &self,
        run: &Run<'_>,
        begun: &Begun,
        position: &Position,
        _routes: &[TableRoute],
        _work: Work,
    ) -> Result<(PostgresSource, View), Problem> {
        let source = PostgresSource::start(self.config(run), position.clone(), begun.history.clone()).await?;
        let (received_from, spooled_bytes) = (source.received(), source.spooled_bytes());
        let mut lag = LagClock::default();
        let view = move |received: &Position| {
            let source = received_from.borrow().clone();
            let (received, now) = (received.lsn().unwrap_or_default(), Instant::now());
            let end = source.wal.as_ref().map(|wal| wal.end.max(received));
            if let Some(end) = end {
                lag.note(end, now);
            }
            Reading {
                end: end.map(Position::postgres),
                lag_bytes: end.map(|end| end.0 - received.0),
                lag_seconds: Some(lag.age(received, now).as_secs_f64()),
                retained_wal_bytes: source.wal.as_ref().map(|wal| wal.bytes()),
                history_seconds_left: None,
                waiting_for: source.waiting_for,
                spooled_bytes: spooled_bytes(),
            }
        };
        Ok((source, Box::new(view)))
    }

    async fn close(&self, source: PostgresSource) {
        source.close().await;
    }

    async fn watch_tables(&self, begun: &Begun, routes: &[TableRoute], board: &Board) -> Problem {
        let identity = |route: &TableRoute| (route.map.source.id, route.map.source.name.clone());
        let watch = TableWatch {
            settings: self.0.from().settings.clone(),
            migration: self.0.migration,
            history: begun.history.clone(),
            carried: routes.iter().map(identity).collect(),
        };
        watch.watch(board).await
    }

    /// Emits a message and returns the first position past it. Its commit is later, and so is every other commit that a
    /// checkpoint at or past this position can stand for.
    async fn marker(&self) -> Result<Position, Problem> {
        let sql = "SELECT pg_logical_emit_message(true, 'tidegate', 'drain')::text";
        let row = self.0.from().session.query_one(sql, &[]).await.map_err(|error| {
            let why = tidegate_connect::describe_sql_error(&error);
            let next = "the source must be writable: a standby cannot take the marker";
            let class = tidegate_connect::sql_error_class(&error);
            let problem = Problem::definite("MI008", "the marker could not be written at the source", why, next);
            Problem { class, ..problem }.caused_by(error)
        })?;
        let lsn: Lsn = row.get::<_, &str>(0).parse().map_err(|error: tidegate_model::InvalidPosition| {
            Problem::bug("MI008", "the marker has no position", error.to_string())
        })?;
        Ok(Position::postgres(Lsn(lsn.0 + 1)))
    }

    /// A publication that was changed may have left out changes: those never come.
    async fn verify_carried(&self, before: &Before) -> Result<(), Problem> {
        let Some(history) = stored_history::<History>(before.history())? else { return Ok(()) };
        let (session, name) = (&self.0.from().session, &history.publication);
        let compared = publication::compare(session, name, history.published.as_ref(), &before.carried()).await?;
        if compared.gaps.is_empty() {
            return Ok(());
        }
        Err(publication::changed(&self.0.migration.name, name, &compared.gaps))
    }
}

/// Returns a history as the state keeps it.
fn as_stored(history: &History) -> Value {
    serde_json::to_value(history).expect("a history is plain data")
}
