//! The rows of an open feed, as they come over its connection.

use std::pin::Pin;

use futures_util::{FutureExt, StreamExt};
use tokio_postgres::{Row, RowStream};

/// Rows are passed on in blocks of about this many bytes, or as few as there are.
const BLOCK_BYTES: u64 = 64 << 10;

/// Only a resolved timestamp comes without a table.
pub(super) fn is_resolved(row: &Row) -> bool {
    row.try_get::<_, Option<&str>>(0).is_ok_and(|table| table.is_none())
}

/// Returns about how much memory a row takes.
pub(super) fn weight(row: &Row) -> u64 {
    (row.raw_size_bytes() + size_of::<Row>()) as u64
}

/// The rows of a feed, in blocks.
pub(super) struct Feed {
    rows: Pin<Box<RowStream>>,
    /// How it ended, behind the rows that came before.
    ended: Option<Option<tokio_postgres::Error>>,
}

impl Feed {
    pub(super) fn new(rows: RowStream) -> Self {
        Feed { rows: Box::pin(rows), ended: None }
    }

    /// Waits for rows and returns those that are there. The error is that of the server; `None`: the feed ended.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Vec<Row>, Option<tokio_postgres::Error>> {
        if let Some(ended) = self.ended.take() {
            return Err(ended);
        }
        let mut next = self.rows.next().await;
        let mut rows = Vec::new();
        let mut bytes = 0;
        loop {
            match next {
                Some(Ok(row)) => {
                    bytes += weight(&row);
                    rows.push(row);
                }
                Some(Err(error)) => self.ended = Some(Some(error)),
                None => self.ended = Some(None),
            }
            if bytes >= BLOCK_BYTES || self.ended.is_some() {
                break;
            }
            match self.rows.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        match self.ended.take() {
            Some(ended) if rows.is_empty() => Err(ended),
            ended => {
                self.ended = ended;
                Ok(rows)
            }
        }
    }
}
