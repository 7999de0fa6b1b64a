//! Taking a stream over: one owner at a time, and no wait where the old one is provably gone.
//!
//! ```text
//!   advisory lock free?          yes --> take
//!     | no
//!   its process ended here?      yes --> take
//!     | no
//!   heartbeat older than 10 s?   yes --> take       (by the database's clock)
//!     | no
//!   --take-over?                 yes --> take       otherwise say who owns it, wait, look again
//! ```
//!
//! CockroachDB has no such locks: there the first question is whether the owner row says that its owner stopped.
//!
//! *Take* is the epoch: once it is higher, no transaction of an older owner can commit. Raising it waits for a
//! transaction of the old owner that is still open at the server, and such a leftover is ended.

use std::time::Duration;

use tidegate_connect::{Session, Settings};
use tidegate_model::Problem;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tracing::{info, warn};

use super::checkpoint::{COLUMNS, CheckpointRow};
use super::heartbeat::Ownership;
use super::owner::{HEARTBEAT_STALE, Myself, OwnerRow, read_owner, write_owner};
use super::{Lease, StateKey, cockroach, failed, process};
use crate::dialect::Dialect;

/// How often a newcomer looks whether the owner is gone.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a transaction that holds the checkpoint row is waited for before it is called a leftover.
pub(super) const LEFTOVER_AFTER: Duration = Duration::from_secs(1);

/// What taking a stream needs to know.
#[derive(Clone, Debug)]
pub struct OwnerConfig {
    /// The target's database.
    pub settings: Settings,
    /// Which stream.
    pub key: StateKey,
    /// Do not wait for an owner that seems to be alive.
    pub take_over: bool,
}

/// What a newcomer waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    /// Another process owns the stream and is alive.
    Owner {
        /// Where it runs.
        host: String,
        /// Its process id there.
        pid: i32,
        /// How long ago it last gave a sign of life.
        heartbeat_age: Duration,
    },
    /// Another process is just taking the stream over.
    Newcomer {
        /// Its backend at the target.
        backend_pid: i32,
    },
    /// A transaction that the target does not name holds the checkpoint row (CockroachDB).
    UnnamedTransaction,
    /// A transaction at the target holds the checkpoint row and cannot be ended by us.
    Transaction {
        /// Its backend at the target.
        backend_pid: i32,
        /// Its `application_name`.
        application_name: String,
    },
}

/// Takes a stream: from then on only this owner can write it. Waits for an owner that is alive, as the module says, and
/// tells `waiting` each time it looked. The state tables must be there.
pub async fn take(config: &OwnerConfig, mut waiting: impl FnMut(&Waiting) + Send) -> Result<Ownership, Problem> {
    let role = config.key.migration.application_name("owner");
    let session = Session::connect(&config.settings, &role).await?;
    let myself = Myself::here();
    let (lease, start) = match Dialect::of(&session) {
        Dialect::Postgres => {
            wait_for_lock(config, &session, &mut waiting).await?;
            raise_epoch(config, &session, &myself, &mut waiting).await?
        }
        Dialect::Cockroach => cockroach::take(config, &session, &myself, &mut waiting).await?,
    };
    info!(epoch = lease.epoch, "stream taken");
    Ok(Ownership::begin(config.settings.clone(), lease, start, myself, session))
}

/// Waits until the advisory lock is ours, or its holder is of no account.
async fn wait_for_lock(
    config: &OwnerConfig,
    session: &Session,
    waiting: &mut (impl FnMut(&Waiting) + Send),
) -> Result<(), Problem> {
    let mut newcomer = None;
    while !try_lock(session, &config.key).await? {
        let holder = lock_holder(session, &config.key).await?;
        let owner = read_owner(session, &config.key).await?;
        match judge(holder, owner.as_ref(), config.take_over, &mut newcomer) {
            Verdict::Take(reason) => {
                info!(reason, "taking the stream over");
                return Ok(());
            }
            Verdict::Wait(why) => waiting(&why),
            Verdict::LookAgain => {}
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

pub(super) enum Verdict {
    Take(&'static str),
    Wait(Waiting),
    LookAgain,
}

/// Decides about a lock that is held. `newcomer` remembers since when a session that is not the owner's holds it.
fn judge(
    holder: Option<i32>,
    owner: Option<&OwnerRow>,
    take_over: bool,
    newcomer: &mut Option<(i32, Instant)>,
) -> Verdict {
    if take_over {
        return Verdict::Take("told to");
    }
    let Some(holder) = holder else { return Verdict::LookAgain };
    match owner {
        Some(owner) if owner.backend_pid == holder => judge_owner(owner),
        // Between its lock and its epoch a newcomer has no row of its own yet: the row tells of an owner before it.
        _ => {
            let since = match *newcomer {
                Some((pid, since)) if pid == holder => since,
                _ => newcomer.insert((holder, Instant::now())).1,
            };
            if since.elapsed() >= HEARTBEAT_STALE {
                return Verdict::Take("another process began to take the stream over and did not finish");
            }
            Verdict::Wait(Waiting::Newcomer { backend_pid: holder })
        }
    }
}

/// Decides by what an owner said of itself.
pub(super) fn judge_owner(owner: &OwnerRow) -> Verdict {
    let age = Duration::try_from_secs_f64(owner.heartbeat_age_seconds).unwrap_or_default();
    if process::is_gone(&owner.process) {
        return Verdict::Take("the process of the old owner has ended");
    }
    if age >= HEARTBEAT_STALE {
        return Verdict::Take("the old owner gives no sign of life");
    }
    Verdict::Wait(Waiting::Owner { host: owner.host.clone(), pid: owner.pid, heartbeat_age: age })
}

/// Tries to lock the stream for this session, without waiting.
pub(super) async fn try_lock(client: &Client, key: &StateKey) -> Result<bool, Problem> {
    let sql = "SELECT pg_try_advisory_lock($1)";
    let row = client.query_one(sql, &[&key.advisory_lock()]).await.map_err(failed("lock the stream"))?;
    Ok(row.get(0))
}

/// Returns the backend that holds the stream's lock.
async fn lock_holder(client: &Client, key: &StateKey) -> Result<Option<i32>, Problem> {
    let sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
               AND (classid::bigint << 32) | objid::bigint = $1 \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let row = client.query_opt(sql, &[&key.advisory_lock()]).await.map_err(failed("see who owns the stream"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Takes the next epoch. A transaction that still holds the checkpoint row is waited for, and after a moment ended.
async fn raise_epoch(
    config: &OwnerConfig,
    session: &Session,
    myself: &Myself,
    waiting: &mut (impl FnMut(&Waiting) + Send),
) -> Result<(Lease, CheckpointRow), Problem> {
    let pid = session.query_one("SELECT pg_backend_pid()", &[]).await.map_err(failed("begin"))?.get(0);
    let raising = raise_epoch_in_transaction(&config.key, session, myself);
    tokio::pin!(raising);
    let mut watcher = None;
    loop {
        tokio::select! {
            raised = &mut raising => return raised,
            () = sleep(LEFTOVER_AFTER) => {}
        }
        let watcher = match &watcher {
            Some(session) => session,
            None => {
                let role = config.key.migration.application_name("owner");
                watcher.insert(Session::connect(&config.settings, &role).await?)
            }
        };
        for blocker in end_leftovers(watcher, &config.key, pid).await? {
            waiting(&blocker);
        }
    }
}

async fn raise_epoch_in_transaction(
    key: &StateKey,
    client: &Session,
    myself: &Myself,
) -> Result<(Lease, CheckpointRow), Problem> {
    client.batch_execute("BEGIN").await.map_err(failed("begin"))?;
    let sql = format!(
        "INSERT INTO {} (migration, stream, epoch) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
        key.table("checkpoint")
    );
    let (migration, stream) = (key.migration.as_str(), key.stream.as_str());
    client.execute(&sql, &[&migration, &stream]).await.map_err(failed("take the stream"))?;
    let sql = format!(
        "UPDATE {} SET epoch = epoch + 1 WHERE {} AND shard = 0 RETURNING {COLUMNS}",
        key.table("checkpoint"),
        key.condition()
    );
    let row = client.query_one(&sql, &[]).await.map_err(failed("take the stream"))?;
    let start = CheckpointRow::from_row(&row)?;
    let lease = Lease { key: key.clone(), epoch: start.epoch };
    write_owner(client, &lease, myself).await?;
    client.batch_execute("COMMIT").await.map_err(failed("take the stream"))?;
    Ok((lease, start))
}

/// Ends the sessions of this migration that keep `pid` waiting, and returns what cannot be ended.
async fn end_leftovers(client: &Client, key: &StateKey, pid: i32) -> Result<Vec<Waiting>, Problem> {
    let sql = "SELECT a.pid, coalesce(a.application_name, '') FROM unnest(pg_blocking_pids($1)) AS b (pid) \
               JOIN pg_stat_activity a ON a.pid = b.pid";
    let blockers = client.query(sql, &[&pid]).await.map_err(failed("see what holds the checkpoint"))?;
    let mut left = Vec::new();
    for row in blockers {
        let (backend_pid, application_name): (i32, String) = (row.get(0), row.get(1));
        let ours = application_name.starts_with(&key.migration.application_name(""));
        // Another newcomer waits for the same leftover and will let us go on.
        let newcomer = application_name == key.migration.application_name("owner");
        if ours && !newcomer && end_backend(client, backend_pid).await {
            warn!(backend_pid, %application_name, "ended a leftover session that held the checkpoint");
        } else {
            left.push(Waiting::Transaction { backend_pid, application_name });
        }
    }
    Ok(left)
}

/// Ends a backend; returns false where we may not.
async fn end_backend(client: &Client, backend_pid: i32) -> bool {
    client.query_one("SELECT pg_terminate_backend($1)", &[&backend_pid]).await.is_ok_and(|row| row.get(0))
}

/// Ends whichever other owner session still holds the stream's lock: its epoch is over, and the lock is ours to take.
pub(super) async fn end_lock_holder(client: &Client, key: &StateKey) -> Result<(), Problem> {
    let Some(holder) = lock_holder(client, key).await? else { return Ok(()) };
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND application_name = $2";
    let role = key.migration.application_name("owner");
    let ours = client.query_opt(sql, &[&holder, &role]).await.map_err(failed("see who owns the stream"))?;
    if ours.is_some() && end_backend(client, holder).await {
        warn!(backend_pid = holder, "ended the session of an earlier owner");
    }
    Ok(())
}
