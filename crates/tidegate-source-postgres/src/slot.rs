//! The replication slot: made with an exported snapshot, looked at, dropped.
//!
//! A slot is made in three steps that survive a crash between any two: the caller stores the intention, the server
//! makes the slot and decides the point, the caller stores the point. A slot that is found with an intention and no
//! point was made by a process that died in between: it is dropped and made again, because its snapshot is gone.

mod create;
mod refusal;
mod row;
mod waiting;
mod walsender;

use std::time::Duration;

use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::{MigrationName, Position, Problem};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tracing::info;

pub use create::{CreatedSlot, SlotRequest, create_with_snapshot};
pub(crate) use refusal::{IN_USE, in_use};
pub use row::SlotRow;
#[cfg(test)]
pub(crate) use row::{NOT_PGOUTPUT, OTHER_DATABASE, TWO_PHASE};
pub use waiting::{Holder, WaitedFor, Waiting};
pub(crate) use walsender::release;

use crate::history::{self, History};
use crate::problem::{self, Asked};
use crate::version;

/// The role of a session that makes a slot, in its `application_name`.
pub(crate) const ROLE_SLOT: &str = "slot";
/// The role of the session that streams.
pub(crate) const ROLE_STREAM: &str = "stream";

/// How long a walsender of ours gets to end after it was told to.
const WALSENDER_END_WAIT: Duration = Duration::from_secs(10);

/// Returns the slot of that name, in whatever database of the cluster it is.
pub async fn inspect(session: &Session, slot: &str) -> Result<Option<SlotRow>, Problem> {
    let asked = Asked::new("looking at the replication slot");
    let version = version::of(session).await?;
    let rows = session.simple_query(&SlotRow::sql(version, slot)).await.map_err(|error| asked.sql(error))?;
    for message in rows {
        if let SimpleQueryMessage::Row(row) = message {
            let cells: Vec<Option<String>> = (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
            return SlotRow::from_cells(&cells).map(Some).ok_or_else(|| asked.unexpected("a slot that cannot be read"));
        }
    }
    Ok(None)
}

/// Returns the slot of that name if this migration may use or replace it; refuses one of another database (slots are
/// cluster-wide), of another plugin, or with `two_phase`. For a start without a checkpoint, before anything is written.
pub async fn claimable(session: &Session, name: &MigrationName, slot: &str) -> Result<Option<SlotRow>, Problem> {
    let database = current_database(session).await?;
    let row = inspect(session, slot).await?;
    if let Some(row) = &row {
        row.is_ours_to_use(name, slot, &database)?;
    }
    Ok(row)
}

/// Returns the slot of that name if this migration may drop it and make it again: like [`claimable`], but a slot with
/// `two_phase` is not refused, because making it again is what repairs it. For `--recreate-slot`.
pub async fn replaceable(session: &Session, name: &MigrationName, slot: &str) -> Result<Option<SlotRow>, Problem> {
    let database = current_database(session).await?;
    let row = inspect(session, slot).await?;
    if let Some(row) = &row {
        row.is_ours_to_drop(name, slot, &database)?;
    }
    Ok(row)
}

/// Returns the history to store from now on if the stream may go on from `at` at this server; otherwise the refusal.
/// Asks only; nothing may be written before it has passed.
pub async fn verify_resume(
    settings: &Settings,
    name: &MigrationName,
    history: &History,
    at: &Position,
) -> Result<History, Problem> {
    let mut session = ReplicationSession::connect(settings, &name.application_name("verify")).await?;
    let observed = history::observe(&mut session, history).await?;
    history::verdict(name, history, at, &observed)
}

/// Drops the slot and returns whether there was one. A walsender of ours that still uses it is ended first; one of
/// somebody else is not, and named.
pub async fn drop(session: &Session, name: &MigrationName, slot: &str) -> Result<bool, Problem> {
    let deadline = tokio::time::Instant::now() + WALSENDER_END_WAIT;
    loop {
        let Some(row) = replaceable(session, name, slot).await? else { return Ok(false) };
        if let Some(pid) = row.active_pid {
            release(session, name, slot, pid).await?;
        }
        match session.execute("SELECT pg_drop_replication_slot($1)", &[&slot]).await {
            Ok(_) => {
                info!(slot, "replication slot dropped");
                return Ok(true);
            }
            // Taken between the look and the drop, or its walsender is still ending.
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => return Ok(false),
            Err(error) => return Err(problem::sql("dropping the replication slot", error)),
        }
    }
}

async fn current_database(session: &Session) -> Result<String, Problem> {
    let asked = Asked::new("asking for the name of the database");
    let row = session.query_one("SELECT current_database()::text", &[]).await.map_err(|error| asked.sql(error))?;
    Ok(row.get(0))
}

/// Returns whether a problem says that the slot is not this migration's to use, rather than that nothing is known.
pub(crate) fn is_refusal(problem: &Problem) -> bool {
    [row::OTHER_DATABASE, row::NOT_PGOUTPUT, row::TWO_PHASE].contains(&problem.code)
}
