//! CockroachDB as what a stream reads: a changefeed from a moment of its clock on.

mod start;
mod tables;
mod watch;

use std::sync::Arc;

use tidegate_model::{Finding, Hlc, Position, Problem, TableFilter, TableRoute};
use tidegate_source_cockroach::copy::{CockroachCopySource, ReadConfig};
use tidegate_source_cockroach::{CockroachSource, History, SourceConfig, Work, catalog, check, history, now};
use tidegate_sql::check::WantedTable;
use tidegate_sql::copy::PlannedTable;

use super::upstream::{Listed, Reading, Start, Upstream, View};
use super::{Before, Board, Flow, Run, Wishes};
pub use start::Begun;

/// How far the clocks of a cluster's nodes may be apart unless it is told otherwise (CockroachDB docs, `--max-offset`).
const MAX_CLOCK_OFFSET_NS: u64 = 500_000_000;

/// A CockroachDB database that a stream reads.
#[derive(Debug, Clone, Copy)]
pub struct Cockroach<'a>(pub Flow<'a>);

impl Cockroach<'_> {
    fn config(&self, tables: Vec<tidegate_source_cockroach::TableInfo>) -> SourceConfig {
        let options = &self.0.migration.pipeline;
        let (settings, name) = (self.0.from().settings.clone(), self.0.migration.name.clone());
        let mut config = SourceConfig::new(settings, name, self.0.stream, tables);
        config.spool_dir = options.spool_dir.clone().unwrap_or(config.spool_dir);
        config.spool_bytes_max = options.spool_bytes_max.map(|bytes| bytes.0);
        config.memory_budget_bytes = options.memory_budget.map_or(config.memory_budget_bytes, |bytes| bytes.0);
        config.resolved_every = options.resolved_every.map_or(config.resolved_every, |every| every.0);
        config.resolved_silence_max = options.resolved_silence_max.map_or(config.resolved_silence_max, |max| max.0);
        config
    }
}

impl Upstream for Cockroach<'_> {
    type Source = CockroachSource;
    type Copy = CockroachCopySource;
    type Begun = Begun;

    async fn findings(&self, filter: &TableFilter, wishes: &Wishes) -> Result<Vec<Finding>, Problem> {
        let (settings, name) = (&self.0.from().settings, &self.0.migration.name);
        check::source_findings(settings, name, filter, wishes.both).await
    }

    async fn tables(&self, filter: &TableFilter) -> Result<Vec<Listed>, Problem> {
        let tables = catalog::list_tables(&self.0.from().session, filter).await?;
        let carried = tables.into_iter().filter(catalog::CatalogTable::is_carried);
        Ok(carried
            .map(|table| Listed {
                rows_estimated: table.rows_estimated.unwrap_or(0),
                bytes_estimated: table.bytes,
                wanted: WantedTable {
                    source: (*table.info.table).clone(),
                    primary_key: table.primary_key,
                    identity_whole: true,
                },
            })
            .collect())
    }

    async fn verify(&self, before: &Before, wishes: &Wishes) -> Result<(), Problem> {
        self.verify_before(before, wishes).await
    }

    async fn identity(&self) -> Result<serde_json::Value, Problem> {
        Ok(as_stored(&history::identify(&self.0.from().session).await?))
    }

    async fn start(&self, run: &Run<'_>, planned: &[PlannedTable]) -> Result<Start<Begun>, Problem> {
        self.start_or_resume(run, planned).await
    }

    fn copy_source(&self, begun: &mut Begun) -> CockroachCopySource {
        let options = &self.0.migration.pipeline;
        let mut read = ReadConfig::default();
        read.chunk_bytes = options.copy_chunk_bytes.map_or(read.chunk_bytes, |bytes| bytes.0);
        let (settings, name) = (self.0.from().settings.clone(), self.0.migration.name.clone());
        CockroachCopySource::new(settings, name, begun.copy_at, read)
    }

    async fn watch_copy(&self, begun: &Begun, at: &Position, _board: &Board) -> Problem {
        watch::history(self.0, &begun.history, &begun.tables, at).await
    }

    async fn source(
        &self,
        run: &Run<'_>,
        begun: &Begun,
        position: &Position,
        routes: &[TableRoute],
        work: Work,
    ) -> Result<(CockroachSource, View), Problem> {
        let tables = tables::of_routes(self.0, routes).await?;
        let mut config = self.config(tables);
        config.work = work;
        config.changed_only = run.both;
        config.old_rows = Arc::clone(&run.seat.arbitrate);
        let point = |route: &TableRoute| Some((route.map.source.id, route.from.hlc()?));
        config.points = routes.iter().filter_map(point).collect();
        let source = CockroachSource::start(config, position.clone(), begun.history.clone()).await?;
        let (received_from, spooled_bytes) = (source.received(), source.spooled_bytes());
        let view = move |received: &Position| {
            let source = received_from.borrow().clone();
            let received = received.hlc().unwrap_or_default();
            let behind = source.now.map(|now| now.wall.saturating_sub(received.wall) as f64 / 1e9);
            Reading {
                end: source.now.map(Position::cockroach),
                lag_seconds: behind,
                history_seconds_left: source.gc.map(|gc| gc.seconds_left() as f64),
                waiting_for: source.waiting_for,
                spooled_bytes: spooled_bytes(),
                ..Reading::default()
            }
        };
        Ok((source, Box::new(view)))
    }

    async fn close(&self, source: CockroachSource) {
        source.close().await;
    }

    async fn watch_tables(&self, _begun: &Begun, routes: &[TableRoute], board: &Board) -> Problem {
        tables::watch(self.0, routes, board).await
    }

    /// Reads the cluster's clock. A commit that was answered on a node whose clock is ahead may lie past it, by as much
    /// as clocks may differ.
    async fn marker(&self) -> Result<Position, Problem> {
        let now = now(&self.0.from().session).await?;
        Ok(Position::cockroach(Hlc { wall: now.wall + MAX_CLOCK_OFFSET_NS, logical: 0 }))
    }

    /// A changefeed that cannot give everything ends with an error, which stops the stream.
    async fn verify_carried(&self, _before: &Before) -> Result<(), Problem> {
        Ok(())
    }
}

/// Returns a history as the state keeps it.
fn as_stored(history: &History) -> serde_json::Value {
    serde_json::to_value(history).expect("a history is plain data")
}
