//! The fence of a source whose snapshots never stand at a position of the stream: commits that wait for a standby, for
//! instance, are long in the log before anybody sees them.
//!
//! A slot's own snapshot stands at its point. Making it waits for every transaction of the cluster that writes, with the
//! applier held short of the point; so it has a limit, and names whom it waited for.

use std::time::Instant;

use tidegate_model::Problem;
use tidegate_source_postgres::fence as source;
use tidegate_source_postgres::slot::Waiting;
use tidegate_sql::snapshot::SnapshotTaker;
use tidegate_verify::SnapshotRef;
use tokio::time::timeout;

use super::{ATTEMPTS_MAX, Fencing, HOLD_MAX, HeldFence, Snapshots, of_target, unsettled};
use crate::engine::seat::Hold;

impl<'a> Fencing<'a> {
    /// Takes a fence by a slot. `why`: what kept the attempts before from one.
    pub(super) async fn by_slot(&self, why: &str) -> Result<HeldFence<'a>, Problem> {
        let live = self.live().await;
        if live.handle.progress().borrow().applied.lsn().is_none() {
            return Err(unsettled(why));
        }
        let target = SnapshotTaker::open(&self.written, &self.key).await?;
        let source = source::SnapshotTaker::open(&self.read, &self.migration.name).await?;
        let mut waits_for = Vec::new();
        let on_wait = |waiting: &Waiting| waits_for = waiting.transactions.iter().map(ToString::to_string).collect();
        let taking = async {
            let began = Instant::now();
            // The point of the slot lies at or behind it.
            let hold = Hold::at(self.seat, &live, &source.log_end().await?);
            let standing = source.take_by_slot(&self.read, &self.migration.name, on_wait).await?;
            live.handle.advance(&standing.position).await?;
            let written = of_target(target.take(&standing.position).await?);
            let read = SnapshotRef::Postgres { snapshot_id: standing.exported };
            Ok::<_, Problem>(Snapshots { position: standing.position, read, written, hold, began })
        };
        match timeout(HOLD_MAX, taking).await {
            Ok(taken) => Ok(self.held(&live, ATTEMPTS_MAX + 1, taken?, (Some(source), target))),
            Err(_elapsed) if waits_for.is_empty() => Err(unsettled(why)),
            Err(_elapsed) => Err(unsettled(&format!("{why}; a slot's snapshot waits for {}", waits_for.join("; ")))),
        }
    }
}
