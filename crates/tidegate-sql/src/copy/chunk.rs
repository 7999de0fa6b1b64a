//! Writing chunks.
//!
//! At PostgreSQL a chunk is one transaction, at CockroachDB several ([`cockroach`](super::cockroach)). The record of a chunk is inserted before its rows: of two transactions with one chunk, the second waits for the
//! first and then fails before it has written anything. That settles a lost answer, too: whoever tries again finds the
//! record, or finds it missing once nobody can commit it any more.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tidegate_model::{Chunk, ChunkSize, ChunkStart, ChunkWriter, Load, Problem, TableMap, TableName};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CopyInSink, Error};

use super::cockroach::{Begun, PieceWriter};
use super::problem;
use super::session::{CopySession, Sessions};
use crate::dialect::Dialect;
use crate::quote;
use crate::server_error::DIVISION_BY_ZERO;
use crate::state::{displaced, table_text};

/// What stands for the end of an open-ended chunk: the number of no page.
const NO_END_PAGE: u64 = u32::MAX as u64;

/// Writes chunks over a session of its own.
pub struct SqlChunkWriter {
    sessions: Sessions,
    open: Option<Open>,
}

/// A chunk that is being written.
enum Open {
    Whole(Box<OpenChunk>),
    InPieces(Box<PieceWriter>),
}

/// A transaction that loads a chunk. Dropped, it is rolled back with its session.
struct OpenChunk {
    session: CopySession,
    rows: Pin<Box<CopyInSink<Bytes>>>,
    target: TableName,
    name: String,
    chunk: u64,
    bytes: u64,
}

impl fmt::Debug for SqlChunkWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunk = self.open.as_ref().map(|open| match open {
            Open::Whole(open) => open.chunk,
            Open::InPieces(open) => open.chunk(),
        });
        f.debug_struct("SqlChunkWriter").field("chunk", &chunk).finish()
    }
}

impl SqlChunkWriter {
    pub(super) fn new(sessions: Sessions) -> Self {
        SqlChunkWriter { sessions, open: None }
    }

    /// The lease, the check that this copy is still the current one (held until the transaction ends), and the record.
    fn begin_sql(&self, name: &str, load: &Load, chunk: &Chunk) -> String {
        let key = &self.sessions.lease().key;
        let name = quote::literal(name);
        format!(
            "{begin}; {lease}; \
             SELECT 1 / count(*) FROM (SELECT copies FROM {copy_table} WHERE {condition} AND source_table = {name} \
                AND copies = {copy} AND state = 'copying' FOR KEY SHARE) AS current; \
             INSERT INTO {copy_chunk} \
                (migration, stream, source_table, chunk, first_page, end_page, rows, bytes, whole) \
             VALUES ('{migration}', '{stream}', {name}, {number}, {first}, {end}, 0, 0, true)",
            begin = self.sessions.marked_begin_sql(),
            lease = self.sessions.lease().guard_sql(Dialect::Postgres),
            copy_table = key.table("copy_table"),
            copy_chunk = key.table("copy_chunk"),
            condition = key.condition(),
            migration = key.migration,
            stream = key.stream,
            copy = load.copy,
            number = chunk.number,
            first = chunk.first_page,
            end = chunk.end_page.unwrap_or(NO_END_PAGE),
        )
    }

    /// Reads the record of a chunk that another transaction wrote.
    async fn written(&self, session: &CopySession, name: &str, chunk: &Chunk) -> Result<ChunkSize, Error> {
        let key = &self.sessions.lease().key;
        let sql = format!(
            "SELECT rows, bytes FROM {} WHERE {} AND source_table = $1 AND chunk = {}",
            key.table("copy_chunk"),
            key.condition(),
            chunk.number
        );
        session.batch_execute("ROLLBACK").await?;
        let row = session.query_one(&sql, &[&name]).await?;
        let number = |index| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
        Ok(ChunkSize { rows: number(0), bytes: number(1) })
    }

    /// Tells whether the stream or only the table was taken over by someone else.
    async fn refused(&self, session: &CopySession, source: &TableName, load: &Load) -> Problem {
        let lease = self.sessions.lease();
        let still_ours = match session.batch_execute("ROLLBACK").await {
            Ok(()) => session.batch_execute(&lease.guard_sql(Dialect::Postgres)).await,
            Err(error) => Err(error),
        };
        match still_ours {
            Ok(()) => problem::broken(source, format!("copy {} of it is not the current one any more", load.copy)),
            Err(error) if is(&error, DIVISION_BY_ZERO) => displaced(lease),
            Err(error) => problem::target("check the owner")(error),
        }
    }

    async fn begin_whole(
        &mut self,
        session: CopySession,
        table: &TableMap,
        load: &Load,
        chunk: &Chunk,
    ) -> Result<ChunkStart, Problem> {
        let source = &table.source.name;
        let name = table_text(source);
        match session.batch_execute(&self.begin_sql(&name, load, chunk)).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                let size =
                    self.written(&session, &name, chunk).await.map_err(problem::target("read a chunk's record"))?;
                self.sessions.give(session);
                return Ok(ChunkStart::Written(size));
            }
            Err(error) if is(&error, DIVISION_BY_ZERO) => return Err(self.refused(&session, source, load).await),
            Err(error) => return Err(problem::target("begin a chunk")(error)),
        }
        let rows = session.copy_in(&copy_sql(table, load)).await;
        let rows = rows.map_err(|error| problem::rows_refused(&table.target, chunk.number, error))?;
        let (target, chunk) = (table.target.clone(), chunk.number);
        let open = OpenChunk { session, rows: Box::pin(rows), target, name, chunk, bytes: 0 };
        self.open = Some(Open::Whole(Box::new(open)));
        Ok(ChunkStart::Open)
    }

    async fn commit_whole(&mut self, mut open: Box<OpenChunk>) -> Result<ChunkSize, Problem> {
        let refused = |error| problem::rows_refused(&open.target, open.chunk, error);
        let rows = open.rows.as_mut().finish().await.map_err(refused)?;
        let key = &self.sessions.lease().key;
        let sql = format!(
            "UPDATE {} SET rows = {rows}, bytes = {} WHERE {} AND source_table = {} AND chunk = {}; COMMIT",
            key.table("copy_chunk"),
            open.bytes,
            key.condition(),
            quote::literal(&open.name),
            open.chunk,
        );
        open.session.batch_execute(&sql).await.map_err(refused)?;
        self.sessions.give(open.session);
        Ok(ChunkSize { rows, bytes: open.bytes })
    }
}

fn is(error: &Error, state: &str) -> bool {
    error.code().is_some_and(|code| code.code() == state)
}

fn copy_sql(table: &TableMap, load: &Load) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| quote::identifier(&column.target)).collect();
    let target = quote::table(&table.target);
    format!("COPY {target} ({}) FROM STDIN (FORMAT {})", columns.join(", "), load.format.as_str())
}

impl ChunkWriter for SqlChunkWriter {
    async fn begin(&mut self, table: &TableMap, load: &Load, chunk: &Chunk) -> Result<ChunkStart, Problem> {
        self.open = None;
        let session = self.sessions.take().await?;
        match Dialect::of(&session) {
            Dialect::Postgres => self.begin_whole(session, table, load, chunk).await,
            Dialect::Cockroach => match PieceWriter::begin(&self.sessions, session, table, load, chunk).await? {
                Begun::Written(size) => Ok(ChunkStart::Written(size)),
                Begun::Open(writer) => {
                    self.open = Some(Open::InPieces(writer));
                    Ok(ChunkStart::Open)
                }
            },
        }
    }

    async fn write(&mut self, block: Bytes) -> Result<(), Problem> {
        match self.open.as_mut().expect("only an open chunk is written to") {
            Open::Whole(open) => {
                open.bytes += block.len() as u64;
                open.rows.send(block).await.map_err(|error| problem::rows_refused(&open.target, open.chunk, error))
            }
            Open::InPieces(writer) => writer.write(block).await,
        }
    }

    async fn commit(&mut self) -> Result<ChunkSize, Problem> {
        match self.open.take().expect("only an open chunk is committed") {
            Open::Whole(open) => self.commit_whole(open).await,
            Open::InPieces(writer) => writer.commit().await,
        }
    }

    async fn abandon(&mut self) {
        self.open = None;
    }
}
