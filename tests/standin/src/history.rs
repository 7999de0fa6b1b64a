//! What the backing PostgreSQL keeps so that time can be read: commit stamps, old rows, and reading at a time.
//!
//! Everything is in the schema `standin` of each database, put there by [`install`], and works without the relay: event
//! triggers follow the DDL, statement triggers log the rows, a deferred trigger stamps the commit:
//!
//! ```text
//!   INSERT, UPDATE, DELETE ──► log_<table>: what left, what came    COMMIT ──► lock, timestamp ──► commit
//!         └── the first of a transaction ──► pending (deferred trigger) ──────────┘
//! ```
//!
//! The lock falls when the commit is visible, so the order of timestamps, of commits and of visibility is one. A column
//! whose comment is `standin: virtual` (or `standin: hidden virtual`) counts as a virtual computed one.

use tokio_postgres::Client;

use crate::error::SqlError;
use crate::knobs::Settings;

mod hlc;
mod point;
mod source;
mod table;
mod trim;

pub use hlc::Hlc;
pub use point::{meaning, now, read_point};
pub use source::{mvcc_source, source};
pub use table::{Column, Layout, Tracked, quoted};
pub use trim::trim;

/// Gives the time of the cluster as a DECIMAL: `cluster_logical_timestamp()`. In a writing transaction a lower bound.
pub const NOW_SQL: &str = "standin.cluster_logical_timestamp()";

/// Session setting (of the backing) that keeps a session's writes out of feeds: `on` or `off`.
pub const HIDDEN_SETTING: &str = "standin.hidden";

/// Key of the advisory lock under which timestamps are given.
const LOCK: &str = "7126001";
const COMMITS_SQL: &str = include_str!("history/commits.sql");
const TABLES_SQL: &str = include_str!("history/tables.sql");

/// Makes a database remember its history. Repeating it changes nothing. Needs a superuser.
pub async fn install(client: &Client) -> Result<(), SqlError> {
    client.batch_execute(&COMMITS_SQL.replace("@lock@", LOCK)).await?;
    client.batch_execute(TABLES_SQL).await?;
    Ok(())
}

/// Returns a row source in parentheses that replaces the table in FROM and gives its rows as of `at` (a time that
/// [`read_point`] gave), with the column `crdb_internal_mvcc_timestamp` behind the others if `mvcc`. Refuses times
/// past the GC threshold. The statement must run below SERIALIZABLE (`BEGIN ISOLATION LEVEL REPEATABLE READ READ
/// ONLY`), or readers of the past would abort writers.
pub async fn as_of(
    client: &Client,
    settings: &Settings,
    database: &str,
    schema: &str,
    table: &str,
    at: Hlc,
    mvcc: bool,
) -> Result<String, SqlError> {
    let found = Tracked::named(client, schema, table).await?;
    let threshold = settings.gc_threshold(client, database, &found).await?;
    if at <= threshold {
        return Err(past_threshold(at, threshold));
    }
    source(client, &found, at, mvcc).await
}

/// Returns a row source for the present rows of a table with the column `crdb_internal_mvcc_timestamp` behind the
/// others.
pub async fn with_mvcc(client: &Client, schema: &str, table: &str) -> Result<String, SqlError> {
    Ok(mvcc_source(&Tracked::named(client, schema, table).await?))
}

/// The error of whoever asks for a time that may have been collected.
pub fn past_threshold(at: Hlc, threshold: Hlc) -> SqlError {
    SqlError::uncoded(format!(
        "batch timestamp {} must be after replica GC threshold {}",
        at.as_internal(),
        threshold.as_internal()
    ))
}
