//! Writes batches to PostgreSQL or CockroachDB: rows and checkpoint in one transaction, the next batch sent behind an
//! unanswered COMMIT.
//!
//! ```text
//!   submit --> planning thread --> Executor: BEGIN, compare-and-set of the checkpoint, statements, COMMIT --> durable
//!              (folds batch n + 1     |  refused: the batch again, transaction by transaction, change by change
//!               while n is written)   |  on disk: one transaction, slice by slice, each behind a savepoint
//!                                     |  both sides open: change by change, each judged by the row that it finds
//!                                     |  more than CockroachDB takes: several transactions, the checkpoint says which part
//!                                     |  interrupted: connect again, read the checkpoint, go on from there
//! ```
//!
//! Whatever happens, the checkpoint row decides: a batch is durable if the row stands at or past its end, and the
//! compare-and-set at the head of every transaction makes sure that it moves from one batch's end to the next and only
//! under this owner's epoch.

mod arbitration;
mod backoff;
mod connection;
mod exchange;
mod executor;
mod failure;
mod job;
mod mark;
mod parts;
mod patience;
mod planning;
mod progress;
mod reading;
mod recovery;
mod refusal;
mod savepoint;
pub(crate) mod session;
mod settle;
mod single_file;
mod size;
mod slices;
mod unfolded;
mod ways;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidegate_connect::Settings;
use tidegate_model::{Applier, Batch, Checkpoint, Position, Problem, Span, TableRoute};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::plan::SessionRights;
use crate::state::Lease;
use connection::Connection;
use executor::Executor;
use planning::{Blueprint, PlanningThread};
use progress::Shared;

pub use crate::plan::TruncateAs;
pub use mark::{Mark, hide_from_feeds};
pub use progress::{ApplyProgress, Giant};

/// Default of [`ApplierConfig::giant_transaction_bytes`]: what CockroachDB takes as one command if nobody has set
/// `kv.raft.command.max_size`, and far more than it takes well.
pub const GIANT_TRANSACTION_BYTES: u64 = 64 << 20;

/// What an applier needs to know.
#[derive(Clone, Debug)]
pub struct ApplierConfig {
    /// The target's database.
    pub settings: Settings,
    /// The right to write the stream.
    pub lease: Lease,
    /// How many batches may be under way: accepted and not yet durable.
    pub batches_in_flight_max: usize,
    /// A source transaction of more bytes than that is written in parts, on CockroachDB. PostgreSQL takes any at once.
    pub giant_transaction_bytes: u64,
    /// What becomes of a TRUNCATE.
    pub truncate_as: TruncateAs,
    /// Set while something reads the target's changes that a TRUNCATE would end: it becomes a DELETE then.
    pub never_truncate: Arc<AtomicBool>,
    /// Whether what is written to PostgreSQL is marked as ours, for a reader in the other direction. On CockroachDB it
    /// always is, where the release knows how.
    pub mark: bool,
    /// Set while both databases are open for writing: each change is then judged by the row that it finds.
    pub arbitrate: Arc<AtomicBool>,
}

impl ApplierConfig {
    /// Makes a configuration with the defaults.
    pub fn new(settings: Settings, lease: Lease) -> Self {
        ApplierConfig {
            settings,
            lease,
            batches_in_flight_max: 3,
            giant_transaction_bytes: GIANT_TRANSACTION_BYTES,
            truncate_as: TruncateAs::default(),
            never_truncate: Arc::default(),
            mark: false,
            arbitrate: Arc::default(),
        }
    }
}

/// Writes batches to a PostgreSQL or CockroachDB database.
#[derive(Debug)]
pub struct SqlApplier {
    /// What has been accepted so far: the next batch begins there.
    accepted: Checkpoint,
    planning: PlanningThread,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    rights: SessionRights,
    executor: JoinHandle<()>,
}

impl SqlApplier {
    /// Connects, and makes sure that the checkpoint stands at `at` and that the stream is still owned under the lease.
    pub async fn start(config: ApplierConfig, at: Position, routes: Vec<TableRoute>) -> Result<Self, Problem> {
        let connection = Connection::open(&config, None).await?;
        let rights = connection.rights();
        connection.verify_checkpoint(&config.lease, &at).await?;
        let room = Arc::new(Semaphore::new(config.batches_in_flight_max.max(1)));
        let shared = Arc::new(Shared::new(at.clone(), Arc::clone(&room)));
        let blueprint = Blueprint {
            routes: Arc::new(routes),
            rights,
            dialect: connection.dialect(),
            truncate_as: config.truncate_as,
            never_truncate: Arc::clone(&config.never_truncate),
            arbitrate: Arc::clone(&config.arbitrate),
            giant_transaction_bytes: config.giant_transaction_bytes,
            unique_refused: Arc::default(),
        };
        let (planning, jobs) = PlanningThread::start(blueprint.clone(), config.batches_in_flight_max.max(1));
        let executor = Executor::new(config, blueprint, connection, at.clone(), jobs, Arc::clone(&shared));
        let executor = tokio::spawn(executor.run_to_end());
        Ok(SqlApplier { accepted: Checkpoint { applied: at }, planning, room, shared, rights, executor })
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

impl Applier for SqlApplier {
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

impl Drop for SqlApplier {
    /// Ends the session: what is not durable by then is rolled back by the server.
    fn drop(&mut self) {
        self.executor.abort();
    }
}
