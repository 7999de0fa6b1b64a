//! What a comparison has found so far, a row for each table: whoever takes its request up again goes on from there.

use serde_json::Value;
use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio_postgres::types::ToSql;

use crate::retry;
use crate::state::{Lease, failed};

/// A table that was compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared<'a> {
    /// The source table.
    pub table: &'a str,
    /// At which point of the source's history.
    pub position: &'a str,
    /// `equal`, `different` or `unknown`.
    pub verdict: &'a str,
    /// All that is told of it.
    pub report: Value,
}

/// Records what was found of a table, over what was recorded of it before. Records nothing where the stream has another
/// owner meanwhile.
pub async fn record(session: &Session, lease: &Lease, request: &str, compared: &Compared<'_>) -> Result<(), Problem> {
    let key = &lease.key;
    let sql = format!(
        "INSERT INTO {} (migration, stream, id, source_table, position, verdict, report) \
         SELECT migration, stream, $1::text, $2::text, $3::text, $4::text, $5::text::jsonb FROM {} WHERE {} AND shard = 0 AND epoch = $6 \
         ON CONFLICT (migration, stream, id, source_table) DO UPDATE SET position = excluded.position, \
         verdict = excluded.verdict, report = excluded.report, ended_at = clock_timestamp()",
        key.table("verify_run"),
        key.table("checkpoint"),
        key.condition(),
    );
    let report = compared.report.to_string();
    let params: [&(dyn ToSql + Sync); 6] =
        [&request, &compared.table, &compared.position, &compared.verdict, &report, &lease.epoch];
    let recorded =
        retry::repeatable(|| async { session.execute(&sql, &params).await.map_err(failed("record a comparison")) });
    recorded.await.map(drop)
}

/// Returns the reports of the tables that a request has found equal so far.
pub async fn found_equal(session: &Session, lease: &Lease, request: &str) -> Result<Vec<Value>, Problem> {
    let sql = format!(
        "SELECT report::text FROM {} WHERE {} AND id = $1 AND verdict = 'equal' ORDER BY source_table",
        lease.key.table("verify_run"),
        lease.key.condition(),
    );
    let rows =
        retry::repeatable(|| async { session.query(&sql, &[&request]).await.map_err(failed("read a comparison")) });
    let report = |row: &tokio_postgres::Row| serde_json::from_str(row.get(0)).ok();
    Ok(rows.await?.iter().filter_map(report).collect())
}
