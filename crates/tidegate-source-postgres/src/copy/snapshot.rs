//! The keeper of a snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use postgres_protocol::escape::escape_literal;
use tidegate_connect::{Session, Settings};
use tidegate_model::{CopySnapshot, Guarded, MigrationName, Position, Problem, RelationId, TableMap};

use super::guard::{self, PostgresGuard};
use super::reader::PostgresReader;
use super::{ReadConfig, problem, session};
use crate::slot::CreatedSlot;

/// A snapshot of the source, held by a session of its own.
#[derive(Debug)]
pub struct PostgresSnapshot {
    point: Position,
    keeper: Session,
    /// What the keeper exported.
    exported: String,
    /// Where each table's rows are, as the snapshot sees it.
    files: HashMap<RelationId, u32>,
    pub(super) settings: Settings,
    pub(super) name: MigrationName,
    pub(super) config: ReadConfig,
    idle: Arc<IdleSessions>,
}

/// Sessions of guards that were let go, for the next guards.
#[derive(Debug, Default)]
pub(super) struct IdleSessions(Mutex<Vec<Session>>);

impl IdleSessions {
    pub(super) fn take(&self) -> Option<Session> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| sessions.pop()).find(|session| !session.is_closed())
    }

    pub(super) fn give(&self, session: Session) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

impl PostgresSnapshot {
    /// Takes the snapshot of a slot over; the slot's session ends here.
    pub(super) async fn import(
        slot: CreatedSlot,
        settings: Settings,
        name: MigrationName,
        config: ReadConfig,
    ) -> Result<Self, Problem> {
        let keeper = session::open(&settings, &name, "copy-keeper").await?;
        begin(&keeper, &slot.snapshot_name).await?;
        let files = read_files(&keeper).await.map_err(problem::snapshot)?;
        let exported = keeper
            .query_one("SELECT pg_catalog.pg_export_snapshot()", &[])
            .await
            .map_err(problem::snapshot)?
            .get::<_, String>(0);
        let point = Position::postgres(slot.point);
        Ok(PostgresSnapshot { point, keeper, exported, files, settings, name, config, idle: Arc::default() })
    }

    /// Returns the file that held a table's rows when the snapshot was taken; `None` for a table that is younger.
    pub(super) fn file_of(&self, table: RelationId) -> Option<u32> {
        self.files.get(&table).copied()
    }

    pub(super) fn idle_sessions(&self) -> Arc<IdleSessions> {
        Arc::clone(&self.idle)
    }

    pub(super) fn exported(&self) -> &str {
        &self.exported
    }
}

/// Begins a transaction that sees exactly the snapshot, and always in one order: a chunk of which the target has a part
/// already is read again and that part is skipped.
pub(super) async fn begin(session: &Session, snapshot: &str) -> Result<(), Problem> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
         SET LOCAL synchronize_seqscans = off",
        escape_literal(snapshot)
    );
    session.batch_execute(&sql).await.map_err(problem::snapshot)
}

/// Unlike `pg_relation_filenode()`, which says what is true now, a query of the catalog sees what the snapshot sees.
/// The savepoint gives the locks on the catalog back: the transaction may last for hours.
async fn read_files(keeper: &Session) -> Result<HashMap<RelationId, u32>, tokio_postgres::Error> {
    keeper.batch_execute("SAVEPOINT files").await?;
    let rows = keeper.query("SELECT oid, relfilenode FROM pg_catalog.pg_class WHERE relkind = 'r'", &[]).await?;
    keeper.batch_execute("ROLLBACK TO SAVEPOINT files; RELEASE SAVEPOINT files").await?;
    Ok(rows.iter().map(|row| (RelationId(row.get(0)), row.get(1))).collect())
}

impl CopySnapshot for PostgresSnapshot {
    type Guard = PostgresGuard;
    type Reader = PostgresReader;

    fn point(&self) -> &Position {
        &self.point
    }

    async fn lost(&self) {
        let reason = self.keeper.closed().await;
        tracing::warn!(reason, "the session that holds the snapshot is gone");
    }

    async fn guard(&self, table: &TableMap) -> Result<Guarded<PostgresGuard>, Problem> {
        guard::take(self, table).await
    }

    async fn reader(&self) -> Result<PostgresReader, Problem> {
        PostgresReader::open(self).await
    }
}
