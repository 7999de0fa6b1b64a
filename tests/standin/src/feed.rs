//! Changefeeds without a sink.
//!
//! ```text
//!   statement ──► options, targets (checked) ──► scan ──► ┌─ look at the log: commits up to now, in order ◄─┐
//!                                                         └─► fold per key ──► message ──► output (faults) ─┤
//!                                                                      resolved (cadence) ──────────────────┘
//! ```

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::SqlError;
use crate::knobs::Settings;

mod cadence;
mod events;
mod message;
mod options;
mod output;
mod request;
mod running;
mod statement;
mod stream;
mod targets;
mod tokens;

pub(crate) use options::InitialScan;
pub(crate) use request::accept;
pub(crate) use statement::{Statement, parse};
pub(crate) use targets::Followed;
pub(crate) use tokens::{Token, split as words};

/// One CREATE CHANGEFEED (or EXPERIMENTAL CHANGEFEED).
#[derive(Clone, Debug)]
pub struct FeedRequest {
    /// The statement as the client sent it.
    pub sql: String,
    /// Values of `$1`...
    pub parameters: Vec<Option<String>>,
    /// How to reach the backing server as its superuser; the database name in it does not count.
    pub backing: tokio_postgres::Config,
    pub settings: Arc<Settings>,
    /// The session's database.
    pub database: String,
    /// Schemas for names without one.
    pub search_path: Vec<String>,
    /// The client's user, whose privileges count. Names a role of the backing; without one nothing is checked.
    pub user: String,
}

/// Where a feed's messages go: the client's connection.
pub trait FeedSink: Send {
    /// A NOTICE; only before `started`.
    fn notice(&mut self, text: &str);
    /// The statement is valid: the RowDescription `(table STRING, key BYTES, value BYTES)` goes out.
    fn started(&mut self);
    /// One row. Bytes are as they are: the format (hex or binary) is the sink's business.
    fn row(&mut self, table: Option<&str>, key: Option<&[u8]>, value: &[u8]);
    /// Sends what was given; waits while the client does not read.
    fn flush(&mut self) -> impl Future<Output = std::io::Result<()>> + Send;
}

/// How a feed ends without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedEnd {
    /// CommandComplete `EXPERIMENTAL CHANGEFEED <rows>`.
    Completed { rows: u64 },
    /// The client's connection is to be closed without a word (knob `standin.drop_connections`), or is closed.
    Dropped,
}

/// Runs a feed until it ends, fails or is cancelled (57014).
pub async fn run(
    request: FeedRequest,
    sink: &mut impl FeedSink,
    cancel: CancellationToken,
) -> Result<FeedEnd, SqlError> {
    let work = Box::pin(async {
        let accepted = accept(&request, None).await?;
        for notice in &accepted.notices {
            sink.notice(notice);
        }
        sink.started();
        running::run(accepted, &request.settings, sink).await
    });
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(SqlError::new("57014", "query execution canceled")),
        ended = work => ended,
    }
}
