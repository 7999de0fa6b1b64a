//! The source's half of a fence: a snapshot, and the position of the stream at which it stands.
//!
//! ```text
//!   applier held --> snapshot --> marker in the log --> marker received: all that the snapshot sees has been received
//!                                                            |
//!                       which of the pending ones it sees <--+    a prefix of them: the last one is the position
//! ```
//!
//! Transactions become visible in another order than they commit, so a snapshot need not be a state of the stream. One
//! that is not is thrown away, and another one is taken.

mod view;

use std::sync::atomic::{AtomicU32, Ordering};

use postgres_protocol::escape::escape_literal;
use tidegate_connect::{Session, Settings};
use tidegate_model::{Lsn, MESSAGE_PREFIX, MigrationName, Position, Problem};

use crate::problem::Asked;
use crate::slot::{SlotRequest, Waiting, create_with_snapshot};
use tokio_util::sync::CancellationToken;
pub use view::{InvalidSnapshot, SnapshotView};

/// The content of the logical message behind a snapshot.
const MARKER: &str = "fence";

/// A snapshot that was taken while the applier was held.
#[derive(Clone, Debug)]
pub struct TakenSnapshot {
    /// By which other sessions import it, for as long as the taker keeps it.
    pub exported: String,
    /// What it sees.
    pub view: SnapshotView,
    /// Once this has been received, so has everything that the snapshot sees.
    pub marker: Position,
}

/// A snapshot that stands at a position by itself.
#[derive(Clone, Debug)]
pub struct StandingSnapshot {
    /// By which other sessions import it, for as long as the taker keeps it.
    pub exported: String,
    /// It sees exactly the commits that end at or before.
    pub position: Position,
}

/// Takes snapshots of the source. Its sessions are made beforehand, because the applier is held meanwhile.
#[derive(Debug)]
pub struct SnapshotTaker {
    keeper: Session,
    marking: Session,
}

impl SnapshotTaker {
    /// Connects.
    pub async fn open(settings: &Settings, name: &MigrationName) -> Result<Self, Problem> {
        let role = name.application_name("fence");
        let (keeper, marking) = tokio::try_join!(Session::connect(settings, &role), Session::connect(settings, &role))?;
        // The walsender sends what is flushed here; a standby that is slow, or away, has no part in it.
        let asked = Asked::new("preparing a fence");
        marking.batch_execute("SET synchronous_commit = local").await.map_err(|error| asked.sql(error))?;
        Ok(SnapshotTaker { keeper, marking })
    }

    /// Takes a snapshot and writes the marker behind it. It is kept until [`SnapshotTaker::let_go`], or until the taker
    /// is dropped.
    pub async fn take(&self) -> Result<TakenSnapshot, Problem> {
        let asked = Asked::new("taking a snapshot of the source");
        let failed = |error| asked.sql(error);
        self.keeper.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
        let sql = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_export_snapshot()";
        let row = self.keeper.query_one(sql, &[]).await.map_err(failed)?;
        let seen: String = row.get(0);
        let view = seen.parse().map_err(|error: InvalidSnapshot| asked.unexpected(&error.to_string()))?;
        Ok(TakenSnapshot { exported: row.get(1), view, marker: self.mark().await? })
    }

    /// Returns the end of the log. A snapshot of [`SnapshotTaker::take_by_slot`] that is taken afterwards never stands
    /// before it.
    pub async fn log_end(&self) -> Result<Position, Problem> {
        let asked = Asked::new("reading the end of the log");
        let sql = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text";
        let row = self.marking.query_one(sql, &[]).await.map_err(|error| asked.sql(error))?;
        let lsn = row.get::<_, &str>(0).parse();
        lsn.map(Position::postgres)
            .map_err(|error: tidegate_model::InvalidPosition| asked.unexpected(&error.to_string()))
    }

    /// Takes the snapshot of a temporary slot, which is gone when this returns: no WAL is held. It waits for every
    /// transaction of the cluster that writes, and tells `on_wait` which, every second. A dropped call ends it.
    pub async fn take_by_slot(
        &self,
        settings: &Settings,
        name: &MigrationName,
        on_wait: impl FnMut(&Waiting),
    ) -> Result<StandingSnapshot, Problem> {
        // One that was given up may still be about to end.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let slot = format!("{}_fence_{}_{number}", name.object_name(), std::process::id());
        let request = SlotRequest { settings, name, slot: &slot, temporary: true };
        let created = create_with_snapshot(request, &CancellationToken::new(), on_wait).await?;
        let asked = Asked::new("taking over the snapshot of a slot");
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            escape_literal(&created.snapshot_name)
        );
        self.keeper.batch_execute(&sql).await.map_err(|error| asked.sql(error))?;
        let row = self.keeper.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await;
        let exported = row.map_err(|error| asked.sql(error))?.get(0);
        drop(created.session);
        // So that the stream gets past the position on an idle server.
        self.mark().await?;
        Ok(StandingSnapshot { exported, position: Position::postgres(created.point) })
    }

    /// Rolls back: the snapshot cannot be imported any more.
    pub async fn let_go(&self) -> Result<(), Problem> {
        self.keeper.batch_execute("ROLLBACK").await.map_err(|error| Asked::new("ending a snapshot").sql(error))
    }

    /// Waits until the session that keeps the snapshot is gone. Cancel-safe.
    pub async fn lost(&self) {
        self.keeper.closed().await;
    }

    /// Writes a message into the log, and returns the first position past it.
    pub async fn mark(&self) -> Result<Position, Problem> {
        let asked = Asked::new("marking the place of a snapshot");
        let sql = "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)::text";
        let row = self.marking.query_one(sql, &[&MESSAGE_PREFIX, &MARKER]).await.map_err(|error| asked.sql(error))?;
        let lsn: Lsn = row
            .get::<_, &str>(0)
            .parse()
            .map_err(|error: tidegate_model::InvalidPosition| asked.unexpected(&error.to_string()))?;
        Ok(Position::postgres(Lsn(lsn.0 + 1)))
    }
}

/// What was received of a stream when the marker had come.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Where the target is.
    pub applied: &'a Position,
    /// What is not applied, in commit order: position and transaction id.
    pub pending: &'a [(Position, u32)],
    /// The ids of the transactions that were applied last.
    pub taken: &'a [u32],
}

/// Returns the position at which a snapshot stands; `None` where it stands at none: it sees a transaction and not one
/// that committed before it.
pub fn position_of(view: &SnapshotView, received: Received<'_>) -> Option<Position> {
    if !received.taken.iter().all(|xid| view.sees(*xid)) {
        return None;
    }
    let seen = received.pending.iter().take_while(|(_, xid)| view.sees(*xid)).count();
    let (visible, rest) = received.pending.split_at(seen);
    if rest.iter().any(|(_, xid)| view.sees(*xid)) {
        return None;
    }
    Some(visible.last().map_or(received.applied, |(position, _)| position).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Position {
        Position::postgres(Lsn(lsn))
    }

    fn position(snapshot: &str, pending: &[(u64, u32)], taken: &[u32]) -> Option<Position> {
        let pending: Vec<(Position, u32)> = pending.iter().map(|(lsn, xid)| (at(*lsn), *xid)).collect();
        let applied = at(10);
        position_of(&snapshot.parse().unwrap(), Received { applied: &applied, pending: &pending, taken })
    }

    #[test]
    fn the_last_visible_transaction_is_where_a_snapshot_stands() {
        assert_eq!(position("5:9:", &[(20, 3), (30, 8), (40, 12)], &[1, 2]), Some(at(30)));
        assert_eq!(position("5:9:5", &[(20, 5), (30, 12)], &[4]), Some(at(10)));
        assert_eq!(position("5:9:", &[], &[]), Some(at(10)));
    }

    #[test]
    fn a_snapshot_that_leaves_out_an_earlier_commit_stands_nowhere() {
        assert_eq!(position("5:9:5", &[(20, 5), (30, 6)], &[]), None);
        // It was applied already, and its process has not made it visible yet.
        assert_eq!(position("5:9:5", &[(30, 6)], &[3, 5]), None);
    }
}
