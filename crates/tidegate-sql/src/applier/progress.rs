//! What the executor tells its handle: how far it is, why it waits, and the error that ended it.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::{Position, Problem, Timestamp};
use tokio::sync::{Semaphore, watch};

/// How far an applier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyProgress {
    /// Everything at or before it is durable at the target.
    pub applied: Position,
    /// Commit time at the source of the last transaction applied since the start.
    pub committed_at: Option<Timestamp>,
    /// Source changes applied since the start.
    pub rows: u64,
    /// Source transactions applied since the start.
    pub transactions: u64,
    /// Changes of the giant transaction under way that are written and not yet committed.
    pub rows_uncommitted: u64,
    /// Batches that were written in source order because the fast plan was refused.
    pub batches_in_source_order: u64,
    /// Why the last attempt did not succeed, while it is being repeated.
    pub retrying: Option<String>,
    /// How many rows a target transaction may have at present, because the target has refused more; `None`: as many as
    /// a batch has.
    pub rows_per_transaction_max: Option<u64>,
    /// The source transaction that is being written in parts, because the target does not take it at once: until its
    /// last part is there the target is not at a state of the source.
    pub giant: Option<Giant>,
    /// The executor has ended; nothing more becomes durable.
    pub(super) ended: bool,
}

/// A source transaction of which the target has a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Giant {
    /// Its position as a whole.
    pub position: Position,
    /// How many of its changes the target has.
    pub part: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    progress: watch::Sender<ApplyProgress>,
    problem: Mutex<Option<Problem>>,
    room: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(at: Position, room: Arc<Semaphore>) -> Self {
        let progress = ApplyProgress {
            applied: at,
            committed_at: None,
            rows: 0,
            transactions: 0,
            rows_uncommitted: 0,
            batches_in_source_order: 0,
            retrying: None,
            rows_per_transaction_max: None,
            giant: None,
            ended: false,
        };
        Shared { progress: watch::Sender::new(progress), problem: Mutex::new(None), room }
    }

    pub(super) fn progress(&self) -> watch::Receiver<ApplyProgress> {
        self.progress.subscribe()
    }

    pub(super) fn show(&self, change: impl FnOnce(&mut ApplyProgress)) {
        self.progress.send_modify(change);
    }

    /// Makes room for another batch.
    pub(super) fn batch_done(&self) {
        self.room.add_permits(1);
    }

    /// Says that nothing more becomes durable, and why.
    pub(super) fn end(&self, problem: Option<Problem>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        self.room.close();
        self.show(|progress| progress.ended = true);
    }

    pub(super) async fn durable_past(&self, than: &Position) -> Result<Position, Problem> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.applied > *than || progress.ended).await;
        let reached = reached.expect("the sender lives as long as self").clone();
        if reached.applied > *than {
            return Ok(reached.applied);
        }
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(problem.unwrap_or_else(|| {
            Problem::bug("AP051", "the applier was used after it had ended", "its error was told before")
        }))
    }
}
