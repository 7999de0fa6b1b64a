//! Rows on their way from a server.

use std::pin::Pin;

use futures_util::StreamExt;
use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};
use tokio_postgres::{CopyOutStream, Error, SimpleQueryMessage, SimpleQueryStream};

use super::{Side, postgres};
use crate::problem;
use crate::row::Fields;

/// The rows of one statement. Dropped before its end, its session ends as well.
pub(crate) struct Rows {
    side: Side,
    /// Until all rows have come.
    session: Option<Session>,
    table: TableName,
    stream: Stream,
    fields: Fields,
}

pub(super) enum Stream {
    Copy(Pin<Box<CopyOutStream>>),
    Simple(Pin<Box<SimpleQueryStream>>),
}

impl Rows {
    pub(super) fn new(side: Side, session: Session, table: TableName, stream: Stream) -> Rows {
        Rows { side, session: Some(session), table, stream, fields: Fields::default() }
    }

    /// Waits for the next row; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<&Fields>, Problem> {
        if self.session.is_none() {
            return Ok(None);
        }
        match self.stream.next(&mut self.fields).await {
            Ok(true) => Ok(Some(&self.fields)),
            Ok(false) => self.end().await.map(|()| None),
            Err(error) => Err(problem::reading(&self.table, error)),
        }
    }

    async fn end(&mut self) -> Result<(), Problem> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if self.side.is_postgres() {
            postgres::leave(&session).await.map_err(|error| problem::reading(&self.table, error))?;
        }
        self.side.give_back(session);
        Ok(())
    }
}

impl Stream {
    /// Reads one row; false after the last one.
    async fn next(&mut self, fields: &mut Fields) -> Result<bool, Error> {
        match self {
            Stream::Copy(lines) => {
                let Some(line) = lines.next().await else { return Ok(false) };
                fields.read_copy_line(&line?);
                Ok(true)
            }
            Stream::Simple(messages) => {
                while let Some(message) = messages.next().await {
                    // The others say what the columns are, and how many rows there were.
                    if let SimpleQueryMessage::Row(row) = message? {
                        fields.clear();
                        (0..row.len()).for_each(|index| fields.push(row.get(index).map(str::as_bytes)));
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}
