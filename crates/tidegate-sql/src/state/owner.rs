//! The owner row: who owns a stream, what it last said of itself, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio_postgres::Client;

use super::process::Living;
use super::{Lease, StateKey, failed};
use crate::dialect::Dialect;
use crate::retry;

/// What the owner row says.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnerRow {
    /// The epoch of the owner.
    pub epoch: i64,
    /// Where it runs, for people.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// Names the process for ever.
    pub process: String,
    /// The backend of the session that holds the stream's advisory lock; 0 at CockroachDB, which has none.
    pub backend_pid: i32,
    /// How long ago it last gave a sign of life, by the database's clock.
    pub heartbeat_age_seconds: f64,
    /// What it last said of itself.
    pub status: Option<Value>,
    /// The problem that stopped it: `code`, `what`, `why`, `next`.
    pub error: Option<Value>,
    /// Whether it stopped in order, with or without a problem.
    pub stopped: bool,
}

/// An owner that gave no sign of life for this long is taken for dead.
pub(super) const HEARTBEAT_STALE: Duration = Duration::from_secs(10);

impl OwnerRow {
    /// Returns whether the owner seems to be running: it has not stopped, was heard of lately, and, if it ran on this
    /// host, its process is there.
    pub fn seems_alive(&self) -> bool {
        let fresh = self.heartbeat_age_seconds < HEARTBEAT_STALE.as_secs_f64();
        !self.stopped && fresh && !super::process::is_gone(&self.process)
    }
}

/// Reads the owner row; `None` where the stream never had an owner.
pub async fn read_owner(client: &Client, key: &StateKey) -> Result<Option<OwnerRow>, Problem> {
    let sql = format!(
        "SELECT epoch, host, pid, process, backend_pid, \
         extract(epoch FROM clock_timestamp() - heartbeat)::FLOAT8, status::text, error::text, stopped_at IS NOT NULL \
         FROM {} WHERE {}",
        key.table("owner"),
        key.condition()
    );
    let row =
        retry::repeatable(|| async { client.query_opt(&sql, &[]).await.map_err(failed("read the owner")) }).await?;
    let json = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
    Ok(row.map(|row| OwnerRow {
        epoch: row.get(0),
        host: row.get(1),
        pid: row.get(2),
        process: row.get(3),
        backend_pid: row.get(4),
        heartbeat_age_seconds: row.get(5),
        status: json(row.get(6)),
        error: json(row.get(7)),
        stopped: row.get(8),
    }))
}

/// Which process writes the row.
#[derive(Clone, Debug)]
pub(super) struct Myself {
    pub(super) host: String,
    pub(super) pid: i32,
    pub(super) living: Arc<Living>,
}

impl Myself {
    pub(super) fn here() -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Myself { host: super::process::host(), pid, living: Arc::new(Living::new()) }
    }

    /// Names this owner for ever.
    pub(super) fn process(&self) -> &str {
        self.living.name()
    }
}

/// What the owner row says of the session that writes it.
fn backend_sql(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "pg_backend_pid()",
        Dialect::Cockroach => "0",
    }
}

/// Writes the row of a new owner, in the transaction that takes the epoch.
pub(super) async fn write_owner(session: &Session, lease: &Lease, myself: &Myself) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} (migration, stream, epoch, host, pid, process, backend_pid, heartbeat) \
         VALUES ($1, $2, $3::INT8, $4, $5::INT4, $6, {}, clock_timestamp()) \
         ON CONFLICT (migration, stream) DO UPDATE SET epoch = excluded.epoch, host = excluded.host, \
         pid = excluded.pid, process = excluded.process, backend_pid = excluded.backend_pid, \
         heartbeat = excluded.heartbeat, error = NULL, stopped_at = NULL",
        lease.key.table("owner"),
        backend_sql(Dialect::of(session)),
    );
    let (migration, stream) = (lease.key.migration.as_str(), lease.key.stream.as_str());
    session
        .execute(&sql, &[&migration, &stream, &lease.epoch, &myself.host, &myself.pid, &myself.process()])
        .await
        .map(drop)
        .map_err(failed("write the owner"))
}

/// Gives a sign of life. Returns whether this owner still owns the stream.
pub(super) async fn beat(session: &Session, lease: &Lease, myself: &Myself, status: &Value) -> Result<bool, Problem> {
    let backend = backend_sql(Dialect::of(session));
    let set = format!("heartbeat = clock_timestamp(), backend_pid = {backend}, status = $1::text::jsonb");
    update(session, lease, myself, &set, &[&status.to_string()]).await
}

/// Records that the owner stopped, and why. Returns whether it still owned the stream.
pub(super) async fn stopped(
    client: &Client,
    lease: &Lease,
    myself: &Myself,
    status: &Value,
    error: Option<&Problem>,
) -> Result<bool, Problem> {
    let error = error.map(|problem| {
        json!({ "code": problem.code, "what": problem.what, "why": problem.why, "next": problem.next }).to_string()
    });
    let set = "heartbeat = clock_timestamp(), status = $1::text::jsonb, error = $2::text::jsonb, \
               stopped_at = clock_timestamp()";
    update(client, lease, myself, set, &[&status.to_string(), &error]).await
}

async fn update(
    client: &Client,
    lease: &Lease,
    myself: &Myself,
    set: &str,
    params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<bool, Problem> {
    let sql = format!(
        "UPDATE {} SET {set} WHERE {} AND epoch = {} AND process = '{}'",
        lease.key.table("owner"),
        lease.key.condition(),
        lease.epoch,
        myself.process().replace('\'', "''"),
    );
    let updated =
        retry::repeatable(|| async { client.execute(&sql, params).await.map_err(failed("give a sign of life")) });
    Ok(updated.await? == 1)
}
