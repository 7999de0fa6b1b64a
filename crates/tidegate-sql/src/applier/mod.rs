//! Writes batches to PostgreSQL: rows and checkpoint in one transaction, the next batch sent behind an unanswered
//! COMMIT.
//!
//! ```text
//!   submit --> planning thread --> Executor: BEGIN, compare-and-set of the checkpoint, statements, COMMIT --> durable
//!              (folds batch n + 1     |  refused: the batch again, transaction by transaction, change by change
//!               while n is written)   |  on disk: one transaction, slice by slice, each behind a savepoint
//!                                     |  interrupted: connect again, read the checkpoint, go on from there
//! ```
//!
//! Whatever happens, the checkpoint row decides: a batch is durable if the row stands at or past its end, and the
//! compare-and-set at the head of every transaction makes sure that it moves from one batch's end to the next and only
//! under this owner's epoch.

mod backoff;
mod connection;
mod exchange;
mod executor;
mod failure;
mod job;
mod planning;
mod progress;
mod refusal;
mod settle;
mod single_file;
mod slices;

use std::sync::Arc;

use tidegate_connect::Settings;
use tidegate_model::{Applier, Batch, Checkpoint, Position, Problem, Span, TableRoute};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::plan::SessionRights;
use crate::state::Lease;
use connection::Connection;
use executor::Executor;
use planning::PlanningThread;
use progress::Shared;

pub use progress::ApplyProgress;

/// What an applier needs to know.
#[derive(Clone, Debug)]
pub struct ApplierConfig {
    /// The target's database.
    pub settings: Settings,
    /// The right to write the stream.
    pub lease: Lease,
    /// How many batches may be under way: accepted and not yet durable.
    pub batches_in_flight_max: usize,
}

/// Writes batches to a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresApplier {
    /// What has been accepted so far: the next batch begins there.
    accepted: Checkpoint,
    planning: PlanningThread,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    rights: SessionRights,
    executor: JoinHandle<()>,
}

impl PostgresApplier {
    /// Connects, and makes sure that the checkpoint stands at `at` and that the stream is still owned under the lease.
    pub async fn start(config: ApplierConfig, at: Position, routes: Vec<TableRoute>) -> Result<Self, Problem> {
        let connection = Connection::open(&config, None).await?;
        let rights = connection.rights();
        connection.verify_checkpoint(&config.lease, &at).await?;
        let room = Arc::new(Semaphore::new(config.batches_in_flight_max.max(1)));
        let shared = Arc::new(Shared::new(at.clone(), Arc::clone(&room)));
        let (planning, jobs) = PlanningThread::start(routes.clone(), rights, config.batches_in_flight_max.max(1));
        let executor = Executor::new(config, routes, connection, at.clone(), jobs, Arc::clone(&shared));
        let executor = tokio::spawn(executor.run_to_end());
        Ok(PostgresApplier { accepted: Checkpoint { applied: at }, planning, room, shared, rights, executor })
    }

    /// Returns a view of how far the applier is and why it waits.
    pub fn progress(&self) -> watch::Receiver<ApplyProgress> {
        self.shared.progress()
    }

    /// Returns what the applying session may do.
    pub fn rights(&self) -> SessionRights {
        self.rights
    }

    fn verify_joins(&self, span: &Span) -> Result<(), Problem> {
        self.accepted.clone().advance(span).map_err(|error| {
            Problem::bug("AP050", "a batch does not begin where the one before it ended", error.to_string())
        })
    }
}

impl Applier for PostgresApplier {
    /// As the trait says. After an error batches are taken and thrown away: the error is told by
    /// [`durable`](Applier::durable), behind everything that is durable.
    async fn submit(&mut self, batch: Batch) -> Result<(), Problem> {
        self.verify_joins(&batch.span)?;
        let room = self.room.acquire().await;
        self.accepted.applied = batch.span.until.clone();
        if let Ok(permit) = room {
            permit.forget();
            self.planning.take(batch);
        }
        Ok(())
    }

    async fn durable(&mut self, than: &Position) -> Result<Position, Problem> {
        self.shared.durable_past(than).await
    }
}

impl Drop for PostgresApplier {
    /// Ends the session: what is not durable by then is rolled back by the server.
    fn drop(&mut self) {
        self.executor.abort();
    }
}
