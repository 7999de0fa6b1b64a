//! Reading chunks.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tidegate_connect::Session;
use tidegate_model::{Chunk, ChunkReader, CopyFormat, Problem, TableMap, TableName};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream};

use super::snapshot::View;
use super::{encode, problem};

/// Passing on this much at once keeps the cost of a row small.
const BLOCK_BYTES: usize = 128 * 1024;

/// How long a cancel request may take; without it the server notices the closed connection a moment later.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);

/// A session that reads as of the snapshot's time.
pub struct CockroachReader {
    session: Session,
    view: Arc<View>,
    /// Whether a statement may be running: set before it is sent, so that an abandoned call leaves it set.
    busy: bool,
    open: Option<OpenChunk>,
}

struct OpenChunk {
    table: TableName,
    rows: Pin<Box<SimpleQueryStream>>,
}

impl std::fmt::Debug for CockroachReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CockroachReader").field("open", &self.open.as_ref().map(|open| &open.table)).finish()
    }
}

impl CockroachReader {
    pub(super) async fn open(view: Arc<View>) -> Result<Self, Problem> {
        let session = view.session("copy-read").await?;
        Ok(CockroachReader { session, view, busy: false, open: None })
    }
}

impl ChunkReader for CockroachReader {
    async fn open(&mut self, table: &TableMap, chunk: &Chunk, format: CopyFormat) -> Result<(), Problem> {
        let name = &table.source.name;
        if format != CopyFormat::Text {
            return Err(problem::binary(name));
        }
        let range = self.view.ranges(table.source.id).map(|ranges| ranges.range(chunk));
        let range = range.ok_or_else(|| problem::not_cut(name))?;
        let columns: Vec<&str> = table.columns.iter().map(|column| &*column.source).collect();
        self.busy = true;
        // Simple protocol: values come in their text form, as PostgreSQL reads them.
        let rows = self.session.simple_query_raw(&range.read(name, &columns, self.view.at)).await;
        let rows = rows.map_err(|error| problem::reading(&self.view, name, error))?;
        self.open = Some(OpenChunk { table: name.clone(), rows: Box::pin(rows) });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        while block.len() < BLOCK_BYTES {
            match open.rows.next().await {
                Some(Ok(SimpleQueryMessage::Row(row))) => {
                    encode::row((0..row.len()).map(|index| row.get(index)), &mut block);
                }
                // What the columns are, and how many rows there were.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(problem::reading(&self.view, &open.table, error)),
                None => {
                    self.open = None;
                    self.busy = false;
                    return Ok((!block.is_empty()).then(|| block.into()));
                }
            }
        }
        Ok(Some(block.into()))
    }

    async fn abandon(self) {
        if self.busy && tokio::time::timeout(CANCEL_TIMEOUT, self.session.cancel()).await.is_err() {
            tracing::debug!("cancel request took too long");
        }
    }
}
