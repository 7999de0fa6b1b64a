//! One chunk, written piece by piece.

use bytes::Bytes;
use tidegate_connect::{LoadSession, QueryError};
use tidegate_model::{Chunk, ChunkSize, Load, Problem, TableMap, TableName};

use super::piece::{Piece, skip};
use crate::copy::problem;
use crate::copy::session::{CopySession, Sessions};
use crate::dialect::Dialect;
use crate::quote;
use crate::retry::{AMBIGUOUS, COLLIDED, Pauses};
use crate::server_error::DIVISION_BY_ZERO;
use crate::state::{displaced, table_text};

/// What stands for the end of an open-ended chunk.
const NO_END: u64 = u32::MAX as u64;

/// What the statement that moves the record answers.
const RECORDED: &str = "recorded";

/// Whether a chunk has to be written.
#[derive(Debug)]
pub(in crate::copy) enum Begun {
    /// It is there.
    Written(ChunkSize),
    /// It is not, or only its first rows are.
    Open(Box<PieceWriter>),
}

/// A chunk that is being written. Dropped, what is not committed is rolled back with its session.
#[derive(Debug)]
pub(in crate::copy) struct PieceWriter {
    sessions: Sessions,
    session: LoadSession,
    source: TableName,
    target: TableName,
    copy_sql: String,
    load: Load,
    chunk: Chunk,
    /// What the record says.
    written: ChunkSize,
    /// How many of those rows are still to come by again.
    skip: u64,
    piece: Piece,
}

/// What became of an attempt at a piece.
enum Attempt {
    Committed,
    /// The record does not stand where the piece begins.
    Elsewhere,
}

impl PieceWriter {
    /// Reads how far the chunk is. `session` tells who the server is.
    pub(in crate::copy) async fn begin(
        sessions: &Sessions,
        session: CopySession,
        table: &TableMap,
        load: &Load,
        chunk: &Chunk,
    ) -> Result<Begun, Problem> {
        let loading = sessions.take_loading(&session).await?;
        sessions.give(session);
        let columns: Vec<String> = table.columns.iter().map(|column| quote::identifier(&column.target)).collect();
        let mut writer = PieceWriter {
            sessions: sessions.clone(),
            session: loading,
            source: table.source.name.clone(),
            target: table.target.clone(),
            copy_sql: format!("COPY {} ({}) FROM STDIN", quote::table(&table.target), columns.join(", ")),
            load: load.clone(),
            chunk: chunk.clone(),
            written: ChunkSize::default(),
            skip: 0,
            piece: Piece::default(),
        };
        match writer.record().await? {
            Some((size, true)) => {
                sessions.give_loading(writer.session);
                return Ok(Begun::Written(size));
            }
            Some((size, false)) => (writer.written, writer.skip) = (size, size.rows),
            None => {}
        }
        Ok(Begun::Open(Box::new(writer)))
    }

    pub(in crate::copy) fn chunk(&self) -> u64 {
        self.chunk.number
    }

    /// Takes more rows of the chunk, and writes whatever pieces become full.
    pub(in crate::copy) async fn write(&mut self, mut block: Bytes) -> Result<(), Problem> {
        self.skip = skip(&mut block, self.skip);
        while !block.is_empty() {
            if self.piece.fill(&mut block) {
                self.write_piece(false).await?;
            }
        }
        Ok(())
    }

    /// Writes the last piece, with the record that the chunk is whole.
    pub(in crate::copy) async fn commit(mut self) -> Result<ChunkSize, Problem> {
        if self.skip > 0 {
            let why = format!("chunk {} had {} rows more when it was read before", self.chunk.number, self.skip);
            return Err(problem::broken(&self.source, why));
        }
        self.write_piece(true).await?;
        self.sessions.give_loading(self.session);
        Ok(self.written)
    }

    async fn write_piece(&mut self, whole: bool) -> Result<(), Problem> {
        let mut pauses = Pauses::new();
        let after =
            ChunkSize { rows: self.written.rows + self.piece.rows(), bytes: self.written.bytes + self.piece.bytes() };
        loop {
            let error = match self.attempt(after, whole).await {
                Ok(Attempt::Committed) => break,
                Ok(Attempt::Elsewhere) if self.record().await? == Some((after, whole)) => break,
                Ok(Attempt::Elsewhere) => {
                    let why = format!("another transaction wrote rows of chunk {}", self.chunk.number);
                    return Err(problem::overtaken(&self.source, why));
                }
                Err(error) => error,
            };
            match error.sqlstate() {
                Some(COLLIDED | AMBIGUOUS) if self.session.is_usable() => {
                    tracing::debug!(%error, chunk = self.chunk.number, "a piece is written again");
                    self.roll_back().await?;
                    if !pauses.another().await {
                        return Err(problem::load_refused(&self.target, self.chunk.number, error));
                    }
                }
                Some(DIVISION_BY_ZERO) if self.session.is_usable() => return Err(self.refused(error).await),
                _ => return Err(problem::load_refused(&self.target, self.chunk.number, error)),
            }
        }
        self.written = after;
        self.piece = Piece::default();
        Ok(())
    }

    /// Sends the piece in a transaction of its own. The record comes first, so that of two writers of one chunk the
    /// second has written nothing when it learns of the first.
    async fn attempt(&mut self, after: ChunkSize, whole: bool) -> Result<Attempt, QueryError> {
        let begin = format!("BEGIN; {}; {}", self.guard_sql(), self.record_sql(after, whole));
        let answer = self.session.query(&begin).await?;
        if answer.last().and_then(|row| row.first()).is_none_or(|text| text.as_deref() != Some(RECORDED)) {
            self.session.query("ROLLBACK").await?;
            return Ok(Attempt::Elsewhere);
        }
        if self.piece.rows() > 0 {
            let copied = self.session.copy_in(&self.copy_sql, self.piece.parts()).await?;
            if copied != self.piece.rows() {
                let why = format!("{} rows were sent and {copied} were counted", self.piece.rows());
                return Err(QueryError::Protocol { why });
            }
        }
        self.session.query("COMMIT").await?;
        Ok(Attempt::Committed)
    }

    /// The lease, and the check that this copy is still the current one.
    fn guard_sql(&self) -> String {
        let lease = self.sessions.lease();
        format!(
            "{}; SELECT 1 / count(*) FROM {} WHERE {} AND source_table = {} AND copies = {} AND state = 'copying'",
            lease.guard_sql(Dialect::Cockroach),
            lease.key.table("copy_table"),
            lease.key.condition(),
            self.name_sql(),
            self.load.copy,
        )
    }

    /// Moves the record from where it stands to where the piece ends.
    fn record_sql(&self, after: ChunkSize, whole: bool) -> String {
        let key = &self.sessions.lease().key;
        let (rows, bytes) = (after.rows, after.bytes);
        if self.written == ChunkSize::default() {
            return format!(
                "INSERT INTO {} (migration, stream, source_table, chunk, first_page, end_page, rows, bytes, whole) \
                 VALUES ('{}', '{}', {}, {}, {}, {}, {rows}, {bytes}, {whole}) \
                 ON CONFLICT DO NOTHING RETURNING '{RECORDED}'",
                key.table("copy_chunk"),
                key.migration,
                key.stream,
                self.name_sql(),
                self.chunk.number,
                self.chunk.first_page,
                self.chunk.end_page.unwrap_or(NO_END),
            );
        }
        format!(
            "UPDATE {} SET rows = {rows}, bytes = {bytes}, whole = {whole} WHERE {} AND source_table = {} \
             AND chunk = {} AND rows = {} AND NOT whole RETURNING '{RECORDED}'",
            key.table("copy_chunk"),
            key.condition(),
            self.name_sql(),
            self.chunk.number,
            self.written.rows,
        )
    }

    /// Reads how much of the chunk is there, and whether that is all; `None` if nothing was recorded.
    async fn record(&mut self) -> Result<Option<(ChunkSize, bool)>, Problem> {
        let key = &self.sessions.lease().key;
        let sql = format!(
            "SELECT rows, bytes, whole::text FROM {} WHERE {} AND source_table = {} AND chunk = {}",
            key.table("copy_chunk"),
            key.condition(),
            self.name_sql(),
            self.chunk.number
        );
        let mut pauses = Pauses::new();
        let rows = loop {
            match self.session.query(&sql).await {
                Ok(rows) => break rows,
                Err(error) if error.sqlstate().is_some_and(|state| [COLLIDED, AMBIGUOUS].contains(&state)) => {
                    if !pauses.another().await {
                        return Err(problem::not_loaded("read a chunk's record")(error));
                    }
                }
                Err(error) => return Err(problem::not_loaded("read a chunk's record")(error)),
            }
        };
        let Some(row) = rows.first() else { return Ok(None) };
        let text = |index: usize| row.get(index).and_then(Option::as_deref).unwrap_or_default();
        let number = |index| {
            let unreadable = |_| problem::broken(&self.source, "the record of a chunk has no number in it");
            text(index).parse::<u64>().map_err(unreadable)
        };
        Ok(Some((ChunkSize { rows: number(0)?, bytes: number(1)? }, text(2).starts_with('t'))))
    }

    /// Tells whether the stream or only the table was taken over by someone else, after a check that failed. Rows can
    /// make the same error.
    async fn refused(&mut self, error: QueryError) -> Problem {
        let doing = "check the owner";
        if let Err(problem) = self.roll_back().await {
            return problem;
        }
        let lease = self.sessions.lease();
        match self.session.query(&lease.guard_sql(Dialect::Cockroach)).await {
            Ok(_) => {}
            Err(refused) if refused.sqlstate() == Some(DIVISION_BY_ZERO) => return displaced(lease),
            Err(error) => return problem::not_loaded(doing)(error),
        }
        match self.session.query(&self.guard_sql()).await {
            Ok(_) => problem::load_refused(&self.target, self.chunk.number, error),
            Err(refused) if refused.sqlstate() == Some(DIVISION_BY_ZERO) => {
                problem::broken(&self.source, format!("copy {} of it is not the current one any more", self.load.copy))
            }
            Err(error) => problem::not_loaded(doing)(error),
        }
    }

    async fn roll_back(&mut self) -> Result<(), Problem> {
        self.session.query("ROLLBACK").await.map(drop).map_err(problem::not_loaded("roll back a piece"))
    }

    fn name_sql(&self) -> String {
        quote::literal(&table_text(&self.source))
    }
}
