//! Reading chunks.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use postgres_protocol::escape::escape_identifier;
use tidegate_connect::Session;
use tidegate_model::{Chunk, ChunkReader, CopyFormat, Problem, TableMap, TableName};
use tokio_postgres::CopyOutStream;

use super::snapshot::{self, PostgresSnapshot};
use super::{name, problem, session};

/// The server sends a row at a time; passing on this much at once keeps the cost of a row small.
const BLOCK_BYTES: usize = 128 * 1024;

/// How long a cancel request may take; without it the server notices the closed connection a moment later.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);

/// A session under a snapshot.
pub struct PostgresReader {
    session: Session,
    /// Whether a statement may be running: set before it is sent, so that an abandoned call leaves it set.
    busy: bool,
    open: Option<OpenChunk>,
}

struct OpenChunk {
    table: TableName,
    rows: Pin<Box<CopyOutStream>>,
    ended: bool,
}

impl std::fmt::Debug for PostgresReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresReader").field("open", &self.open.as_ref().map(|open| &open.table)).finish()
    }
}

impl PostgresReader {
    pub(super) async fn open(snapshot: &PostgresSnapshot) -> Result<Self, Problem> {
        let session = session::open(&snapshot.settings, &snapshot.name, "copy-read").await?;
        snapshot::begin(&session, snapshot.exported()).await?;
        Ok(PostgresReader { session, busy: false, open: None })
    }
}

/// The statement that reads a chunk: the columns in the order of the map, by a TID range scan.
fn copy_sql(table: &TableMap, chunk: &Chunk, format: CopyFormat) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| escape_identifier(&column.source)).collect();
    let end = chunk.end_page.map(|page| format!(" AND ctid < '({page},0)'::tid")).unwrap_or_default();
    format!(
        "COPY (SELECT {} FROM ONLY {} WHERE ctid >= '({},0)'::tid{end}) TO STDOUT (FORMAT {})",
        columns.join(", "),
        name::table(&table.source.name),
        chunk.first_page,
        format.as_str()
    )
}

impl ChunkReader for PostgresReader {
    async fn open(&mut self, table: &TableMap, chunk: &Chunk, format: CopyFormat) -> Result<(), Problem> {
        let reading = |error| problem::reading(&table.source.name, error);
        self.busy = true;
        self.session.batch_execute("SAVEPOINT chunk").await.map_err(reading)?;
        let rows = self.session.copy_out(&copy_sql(table, chunk, format)).await.map_err(reading)?;
        self.open = Some(OpenChunk { table: table.source.name.clone(), rows: Box::pin(rows), ended: false });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let mut block = BytesMut::with_capacity(BLOCK_BYTES);
        while !open.ended && block.len() < BLOCK_BYTES {
            match open.rows.next().await {
                // One value larger than a block is passed on as it came.
                Some(Ok(row)) if block.is_empty() && row.len() >= BLOCK_BYTES => return Ok(Some(row)),
                Some(Ok(row)) => block.extend_from_slice(&row),
                Some(Err(error)) => return Err(problem::reading(&open.table, error)),
                None => open.ended = true,
            }
        }
        if !block.is_empty() {
            return Ok(Some(block.freeze()));
        }
        // A lock taken after a savepoint is released when it is rolled back to: a worker holds nothing on tables it
        // left.
        let released = self.session.batch_execute("ROLLBACK TO SAVEPOINT chunk; RELEASE SAVEPOINT chunk").await;
        released.map_err(|error| problem::reading(&open.table, error))?;
        self.open = None;
        self.busy = false;
        Ok(None)
    }

    async fn abandon(self) {
        if self.busy && tokio::time::timeout(CANCEL_TIMEOUT, self.session.cancel()).await.is_err() {
            tracing::debug!("cancel request took too long");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_model::{ColumnMap, RelationId, ReplicaIdentity, SourceColumn, SourceTable};

    #[test]
    fn a_chunk_is_a_range_of_pages_of_the_table_alone() {
        let column = |name: &str| SourceColumn { name: name.into(), type_oid: 25, type_modifier: -1, identity: false };
        let map = |name: &str| ColumnMap {
            source: name.into(),
            target: "other".into(),
            target_type: "text".into(),
            comparable: true,
        };
        let table = TableMap {
            source: SourceTable {
                id: RelationId(1),
                name: TableName::new("S", "a\"b"),
                replica_identity: ReplicaIdentity::Default,
                columns: vec![column("x"), column("Y")],
            },
            target: TableName::new("t", "t"),
            columns: vec![map("x"), map("Y")],
            key: vec![0],
            references: vec![],
        };
        let sql = |end_page| copy_sql(&table, &Chunk { number: 1, first_page: 4, end_page }, CopyFormat::Binary);
        assert_eq!(
            sql(Some(8)),
            "COPY (SELECT \"x\", \"Y\" FROM ONLY \"S\".\"a\"\"b\" \
             WHERE ctid >= '(4,0)'::tid AND ctid < '(8,0)'::tid) TO STDOUT (FORMAT binary)"
        );
        assert!(sql(None).ends_with(r#"ctid >= '(4,0)'::tid) TO STDOUT (FORMAT binary)"#));
    }
}
