//! One consistent view: a time, and the ranges of the tables that were cut so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_connect::{Session, Settings};
use tidegate_model::{CopyFormat, CopySnapshot, Guarded, Hlc, MigrationName, Position, Problem, RelationId, TableMap};

use super::ReadConfig;
use super::guard::{self, CockroachGuard, Ranges};
use super::reader::CockroachReader;
use crate::statement;

/// The source as it was at one time.
#[derive(Debug)]
pub struct CockroachSnapshot {
    point: Position,
    view: Arc<View>,
}

/// What every session under the snapshot knows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) at: Hlc,
    pub(super) name: MigrationName,
    pub(super) config: ReadConfig,
    settings: Settings,
    /// Where tables were cut. A table that is guarded again keeps its cuts, and with them the numbers of its chunks.
    ranges: Mutex<HashMap<RelationId, Arc<Ranges>>>,
}

impl View {
    pub(super) fn ranges(&self, table: RelationId) -> Option<Arc<Ranges>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).get(&table).cloned()
    }

    pub(super) fn keep_ranges(&self, table: RelationId, ranges: Ranges) -> Arc<Ranges> {
        let mut known = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(table).or_insert_with(|| Arc::new(ranges)))
    }

    /// Opens a session that gives way to those of applications.
    pub(super) async fn session(&self, role: &str) -> Result<Session, Problem> {
        let session = Session::connect(&self.settings, &self.name.application_name(role)).await?;
        if let Err(error) = session.batch_execute(statement::IN_THE_BACKGROUND).await {
            // Not in every version; one that goes on without it reads as fast as anybody.
            tracing::debug!(error = %error, "the copy cannot be given a lower priority");
        }
        Ok(session)
    }
}

impl CockroachSnapshot {
    pub(super) fn new(settings: Settings, name: MigrationName, at: Hlc, config: ReadConfig) -> Self {
        let view = View { at, name, config, settings, ranges: Mutex::default() };
        CockroachSnapshot { point: Position::cockroach(at), view: Arc::new(view) }
    }
}

impl CopySnapshot for CockroachSnapshot {
    type Guard = CockroachGuard;
    type Reader = CockroachReader;

    fn point(&self) -> &Position {
        &self.point
    }

    /// Never: what garbage collection takes is told by the reads.
    async fn lost(&self) {
        std::future::pending().await
    }

    /// Rows are read in the simple protocol, which has no other form.
    fn format(&self, _format: CopyFormat) -> CopyFormat {
        CopyFormat::Text
    }

    async fn guard(&self, table: &TableMap) -> Result<Guarded<CockroachGuard>, Problem> {
        guard::take(&self.view, table).await.map(Guarded::Held)
    }

    async fn reader(&self) -> Result<CockroachReader, Problem> {
        CockroachReader::open(Arc::clone(&self.view)).await
    }
}
