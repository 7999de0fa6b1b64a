//! The checkpoint row: how far the target is, and which epoch may move it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tidegate_model::{Position, Problem, Timestamp};
use tokio_postgres::{Client, Row};

use super::{Lease, StateKey, failed};
use crate::retry::{self, AMBIGUOUS};

/// What the checkpoint row says.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRow {
    /// The epoch of the newest owner.
    pub epoch: i64,
    /// Everything at or before it is in the target. `None`: no start point is known yet.
    pub position: Option<Position>,
    /// The history that positions belong to. With it and without a position a start point was about to be made: a slot
    /// that is found then is ours but of no use.
    pub history: Option<Value>,
    /// Commit time at the source of the last transaction applied.
    pub committed_at: Option<Timestamp>,
}

/// A time is read as such: a number of seconds would lose digits at a server that computes with floating-point numbers.
pub(super) const COLUMNS: &str = "epoch, position, history::text AS history, committed_at";

impl CheckpointRow {
    pub(super) fn from_row(row: &Row) -> Result<Self, Problem> {
        let position: Option<String> = row.get(1);
        let position = position.map(|text| text.parse()).transpose().map_err(unreadable)?;
        let history: Option<String> = row.get(2);
        let history = history.map(|text| serde_json::from_str(&text)).transpose().map_err(unreadable)?;
        let committed_at: Option<SystemTime> = row.get(3);
        Ok(CheckpointRow { epoch: row.get(0), position, history, committed_at: committed_at.map(timestamp) })
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp(match time.duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    })
}

/// Reads the checkpoint row; `None` where the stream has none.
pub async fn read_checkpoint(client: &Client, key: &StateKey) -> Result<Option<CheckpointRow>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE {} AND shard = 0", key.table("checkpoint"), key.condition());
    let row = retry::repeatable(|| async { client.query_opt(&sql, &[]).await.map_err(failed("read the checkpoint")) });
    row.await?.as_ref().map(CheckpointRow::from_row).transpose()
}

/// Records that a start point is about to be made in `history`, and that none is known. Fails where another epoch
/// owns the stream or a start point is known already.
pub async fn store_intention(client: &Client, lease: &Lease, history: &Value) -> Result<(), Problem> {
    let set = "history = $1::text::jsonb, committed_at = NULL";
    store(client, lease, set, &[&history.to_string()], "position IS NULL").await
}

/// Forgets the start point, because a new one is about to be made in `history`. Fails where another epoch owns the
/// stream.
pub async fn forget_start(client: &Client, lease: &Lease, history: &Value) -> Result<(), Problem> {
    let set = "history = $1::text::jsonb, position = NULL, committed_at = NULL";
    store(client, lease, set, &[&history.to_string()], "true").await
}

/// Records that the stream goes on in `history`, which continues the one it belonged to: the source was promoted. Fails
/// where another epoch owns the stream.
pub async fn store_history(client: &Client, lease: &Lease, history: &Value) -> Result<(), Problem> {
    store(client, lease, "history = $1::text::jsonb", &[&history.to_string()], "position IS NOT NULL").await
}

/// Records the start point: everything at or before `position` comes from the copy, everything after it from the
/// stream. Fails where another epoch owns the stream or a start point is known already.
pub async fn store_start(client: &Client, lease: &Lease, position: &Position, history: &Value) -> Result<(), Problem> {
    let set = "history = $1::text::jsonb, position = $2, committed_at = NULL";
    store(client, lease, set, &[&history.to_string(), &position.to_string()], "position IS NULL").await
}

async fn store(client: &Client, lease: &Lease, set: &str, texts: &[&String], when: &str) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE {} SET {set}, updated_at = clock_timestamp() WHERE {} AND shard = 0 AND epoch = {} AND {when}",
        lease.key.table("checkpoint"),
        lease.key.condition(),
        lease.epoch
    );
    let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = texts.iter().map(|text| *text as _).collect();
    let ambiguous = AtomicBool::new(false);
    let stored = retry::repeatable(|| async {
        let stored = client.execute(&sql, &params).await.map_err(failed("store the checkpoint"));
        if stored.as_ref().is_err_and(|problem| retry::sqlstate(problem) == Some(AMBIGUOUS)) {
            ambiguous.store(true, Ordering::Relaxed);
        }
        stored
    });
    if stored.await? == 1 {
        return Ok(());
    }
    match read_checkpoint(client, &lease.key).await? {
        // The attempt with the lost answer has stored it, and nobody else may.
        Some(row) if row.epoch == lease.epoch && ambiguous.into_inner() => Ok(()),
        Some(row) if row.epoch == lease.epoch => Err(Problem::bug(
            "ST010",
            "the start point of the stream was to be stored twice",
            format!("the checkpoint is at {:?}", row.position.map(|position| position.to_string())),
        )),
        _ => Err(displaced(lease)),
    }
}

/// Makes the problem of an owner whose stream was taken over.
pub(crate) fn displaced(lease: &Lease) -> Problem {
    let key = &lease.key;
    Problem::definite(
        "ST003",
        format!("migration \"{}\" is owned by another process now", key.migration),
        format!("stream \"{}\" was taken over; this process owned it in epoch {}", key.stream, lease.epoch),
        format!("see who owns it: tidegate status --name {}", key.migration),
    )
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Problem {
    Problem::definite(
        "ST011",
        "the checkpoint row cannot be read",
        error.to_string(),
        "nothing but tidegate may write to the state tables: restore the row from a backup",
    )
    .caused_by(error)
}
