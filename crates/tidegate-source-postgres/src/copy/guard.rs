//! The lock that keeps a table's pages where they are.
//!
//! `VACUUM FULL`, `CLUSTER` and `ALTER TYPE` move rows to other pages, and `TRUNCATE` takes them away from snapshots
//! too: chunks read before and after would lose rows and double rows. All of them need an ACCESS EXCLUSIVE lock and
//! give the table a new file. So the table is under ACCESS SHARE from its first chunk to its last, and its file must be
//! the one the snapshot knows.

use std::sync::Arc;
use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Chunk, Guarded, Problem, TableGuard, TableMap, Wanted};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::snapshot::{IdleSessions, PostgresSnapshot};
use super::{name, problem, session, shape};

/// How often waiting locks are looked for.
const WAITERS_LOOKED_FOR_EVERY: Duration = Duration::from_secs(1);

/// A table held under ACCESS SHARE by a transaction of its own.
#[derive(Debug)]
pub struct PostgresGuard {
    session: Session,
    idle: Arc<IdleSessions>,
    chunks: Vec<Chunk>,
    waiters_sql: String,
    lock_yield: Duration,
}

/// Guards a table and compares it with what the snapshot and the plan know of it.
pub(super) async fn take(snapshot: &PostgresSnapshot, table: &TableMap) -> Result<Guarded<PostgresGuard>, Problem> {
    let idle = snapshot.idle_sessions();
    let session = match idle.take() {
        Some(session) => session,
        None => session::open(&snapshot.settings, &snapshot.name, "copy-guard").await?,
    };
    match lock(&session, table, snapshot.config.lock_timeout).await {
        Ok(()) => {}
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            session.batch_execute("ROLLBACK").await.map_err(|error| problem::reading(&table.source.name, error))?;
            idle.give(session);
            return Ok(Guarded::Busy);
        }
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Err(problem::changed(&snapshot.name, &table.source, "it was dropped or renamed"));
        }
        Err(error) => return Err(problem::reading(&table.source.name, error)),
    }

    let reading = |error: Error| problem::reading(&table.source.name, error);
    // The locks that these questions leave on the catalog are given back; the one on the table is older and stays.
    session.batch_execute("SAVEPOINT look").await.map_err(reading)?;
    if let Some(difference) = shape::difference(&session, &table.source).await.map_err(reading)? {
        return Err(problem::changed(&snapshot.name, &table.source, &difference));
    }
    let storage = Storage::of(&session, table).await.map_err(reading)?;
    session.batch_execute("ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look").await.map_err(reading)?;

    if snapshot.file_of(table.source.id) != Some(storage.file) {
        session.batch_execute("ROLLBACK").await.map_err(reading)?;
        idle.give(session);
        return Ok(Guarded::Rewritten);
    }
    Ok(Guarded::Held(PostgresGuard {
        session,
        idle,
        chunks: storage.chunks(snapshot.config.chunk_bytes),
        waiters_sql: storage.waiters_sql(),
        lock_yield: snapshot.config.lock_yield,
    }))
}

async fn lock(session: &Session, table: &TableMap, timeout: Duration) -> Result<(), Error> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL lock_timeout = {}; \
         LOCK TABLE ONLY {} IN ACCESS SHARE MODE; SET LOCAL lock_timeout = 0",
        timeout.as_millis().max(1),
        name::table(&table.source.name)
    );
    session.batch_execute(&sql).await
}

/// Where a table's rows are now.
struct Storage {
    file: u32,
    pages: u64,
    /// Pages and TOAST.
    bytes: u64,
    database: u32,
    /// The table, its TOAST table and the indexes of both: reading a chunk locks them too.
    relations: Vec<u32>,
}

impl Storage {
    async fn of(session: &Session, table: &TableMap) -> Result<Storage, Error> {
        let sql = "
            WITH heap AS (SELECT oid FROM pg_class WHERE oid = $1::oid
                          UNION SELECT reltoastrelid FROM pg_class WHERE oid = $1::oid AND reltoastrelid <> 0)
            SELECT coalesce(pg_relation_filenode($1::oid), 0::oid),
                   pg_relation_size($1::oid) / current_setting('block_size')::bigint,
                   pg_table_size($1::oid),
                   (SELECT oid FROM pg_database WHERE datname = current_database()),
                   ARRAY(SELECT oid FROM heap
                         UNION SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM heap))";
        let row = session.query_one(sql, &[&table.source.id.0]).await?;
        Ok(Storage {
            file: row.get(0),
            pages: row.get::<_, i64>(1) as u64,
            bytes: row.get::<_, i64>(2) as u64,
            database: row.get(3),
            relations: row.get(4),
        })
    }

    /// Cuts by pages, as many to a chunk as make `chunk_bytes` together with the TOAST that hangs on them.
    fn chunks(&self, chunk_bytes: u64) -> Vec<Chunk> {
        let bytes_per_page = self.bytes.div_ceil(self.pages.max(1)).max(1);
        Chunk::cut(self.pages, chunk_bytes / bytes_per_page)
    }

    /// Asks how long someone has waited for a lock that readers stand in the way of. Uses the function below
    /// `pg_locks`, because reading the view would lock it until the guard is let go.
    fn waiters_sql(&self) -> String {
        let relations: Vec<String> = self.relations.iter().map(u32::to_string).collect();
        format!(
            "SELECT max(extract(epoch FROM clock_timestamp() - waitstart))::float8 FROM pg_catalog.pg_lock_status() \
             WHERE NOT granted AND locktype = 'relation' AND mode = 'AccessExclusiveLock' \
             AND database = {} AND relation IN ({})",
            self.database,
            relations.join(", ")
        )
    }
}

impl PostgresGuard {
    /// Returns how long the most patient waiter has waited.
    async fn longest_wait(&self) -> Result<Option<Duration>, Error> {
        let row = self.session.query_one(&self.waiters_sql, &[]).await?;
        Ok(row.get::<_, Option<f64>>(0).map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
    }
}

impl TableGuard for PostgresGuard {
    fn chunks(&self) -> Vec<Chunk> {
        self.chunks.clone()
    }

    async fn wanted(&mut self) -> Wanted {
        let mut pause = WAITERS_LOOKED_FOR_EVERY.min(self.lock_yield);
        loop {
            tokio::time::sleep(pause).await;
            let waited = match self.longest_wait().await {
                Ok(waited) => waited.unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(error = %error, "table guard lost");
                    return Wanted::Lost;
                }
            };
            if waited >= self.lock_yield {
                return Wanted::ByOther;
            }
            pause = WAITERS_LOOKED_FOR_EVERY.min(self.lock_yield - waited);
        }
    }

    async fn release(self) -> bool {
        // The question fails in a transaction that was aborted, and without a connection.
        let held = self.session.batch_execute("SELECT; COMMIT").await.is_ok();
        if held {
            self.idle.give(self.session);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toast_makes_chunks_of_fewer_pages() {
        let storage = |bytes| Storage { file: 1, pages: 100, bytes, database: 1, relations: vec![2] };
        assert_eq!(storage(100 * 8192).chunks(10 * 8192).len(), 10);
        assert_eq!(storage(500 * 8192).chunks(10 * 8192).len(), 50);
        assert_eq!(storage(u64::MAX).chunks(1).len(), 100);
    }
}
