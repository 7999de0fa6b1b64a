//! Planning on a thread of its own, so that it overlaps with the target's work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use tidegate_model::{Batch, Change, Changes, Problem, TableRoute, Transaction, Value};
use tokio::sync::mpsc;
use tracing::debug;

use super::job::{Job, Mode, is_spooled};
use super::reading::positioned;
use crate::dialect::Dialect;
use crate::plan::{Planner, SessionRights, SliceLimit, TruncateAs};

/// A batch in memory is folded whole: its size was bounded when it was made.
const WHOLE: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

/// From what planners are made.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    pub(super) routes: Arc<Vec<TableRoute>>,
    pub(super) rights: SessionRights,
    pub(super) dialect: Dialect,
    pub(super) truncate_as: TruncateAs,
    /// See [`super::ApplierConfig::never_truncate`].
    pub(super) never_truncate: Arc<AtomicBool>,
    /// See [`super::ApplierConfig::arbitrate`].
    pub(super) arbitrate: Arc<AtomicBool>,
    /// A transaction of more bytes than that is written in parts, on CockroachDB.
    pub(super) giant_transaction_bytes: u64,
    /// Set once a folded batch was refused because of a unique value.
    pub(super) unique_refused: Arc<AtomicBool>,
}

impl Blueprint {
    pub(super) fn planner(&self) -> Planner {
        Planner::new(self.routes.to_vec(), self.rights, self.dialect).truncating_as(self.truncation())
    }

    /// What becomes of a TRUNCATE now.
    fn truncation(&self) -> TruncateAs {
        if self.never_truncate.load(Ordering::Relaxed) { TruncateAs::Delete } else { self.truncate_as }
    }

    /// Whether the target would not take a transaction at once.
    fn is_giant(&self, transaction: &Transaction) -> bool {
        self.dialect.is_cockroach() && transaction.changes.bytes() > self.giant_transaction_bytes
    }

    /// Whether a transaction is like those that CockroachDB refuses folded: it writes a row more than once, as it must to
    /// let two rows change a unique value between them. Found out beforehand it costs a transaction of its own; found out
    /// by the refusal of a whole batch it costs that batch several times. Looked for only where it has happened. It still
    /// is tried folded first: that also writes children that a cascade deleted before what their parent made room for.
    fn moves_in_turns(&self, transaction: &Transaction) -> bool {
        let looked_for = self.dialect.is_cockroach() && self.unique_refused.load(Ordering::Relaxed);
        looked_for && writes_a_row_again(transaction)
    }

    /// Makes jobs of a batch.
    fn jobs(&self, planner: &mut Planner, batch: Batch) -> Vec<Job> {
        let alone = |transaction: &Transaction| self.is_giant(transaction) || self.moves_in_turns(transaction);
        let jobs = Job::new(Arc::new(batch), Mode::Unplanned).cut(u64::MAX, alone);
        let planned = |job: Job| Job { mode: self.mode_of(planner, &job.batch), ..job };
        jobs.into_iter().map(planned).collect()
    }

    /// Decides how a batch is written.
    fn mode_of(&self, planner: &mut Planner, batch: &Batch) -> Mode {
        if self.arbitrate.load(Ordering::Relaxed) && !batch.transactions.is_empty() {
            return Mode::Arbitrated { patient: false };
        }
        let begun = |first: &Transaction| batch.span.after.part > 0 && first.position.commit == batch.span.after.commit;
        match batch.transactions.as_slice() {
            [one] if self.is_giant(one) || (is_spooled(batch) && begun(one)) => Mode::Parts,
            _ if is_spooled(batch) => Mode::Slices,
            _ => folded(planner, batch),
        }
    }
}

/// Returns whether a transaction updates one row more than once.
fn writes_a_row_again(transaction: &Transaction) -> bool {
    let Changes::Memory(changes) = &transaction.changes else { return false };
    let mut updated = HashSet::new();
    changes.iter().any(|change| {
        let Change::Update { table, new, .. } = change else { return false };
        let identity = table.columns.iter().enumerate().filter(|(_, column)| column.identity);
        let key: Vec<Value<'_>> = identity.map(|(index, _)| new.row().value(index)).collect();
        !key.is_empty() && !updated.insert((table.id, key))
    })
}

/// The way into the thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct PlanningThread {
    batches: Sender<Batch>,
}

impl PlanningThread {
    /// Starts the thread. No more than `batches_max` batches are under way.
    pub(super) fn start(blueprint: Blueprint, batches_max: usize) -> (Self, mpsc::Receiver<Job>) {
        let (batches, given) = bounded(batches_max);
        let (planned, jobs) = mpsc::channel(batches_max);
        std::thread::Builder::new()
            .name("tidegate-plan".to_owned())
            .spawn(move || plan_batches(&blueprint, &given, &planned))
            .expect("the system starts threads");
        (PlanningThread { batches }, jobs)
    }

    pub(super) fn take(&self, batch: Batch) {
        // An error means that the thread has ended with the executor, which has told why.
        let _ = self.batches.send(batch);
    }
}

fn plan_batches(blueprint: &Blueprint, batches: &Receiver<Batch>, jobs: &mpsc::Sender<Job>) {
    let mut planner = blueprint.planner();
    for batch in batches {
        planner.truncate_as(blueprint.truncation());
        for job in blueprint.jobs(&mut planner, batch) {
            if jobs.blocking_send(job).is_err() {
                return;
            }
        }
    }
}

fn folded(planner: &mut Planner, batch: &Batch) -> Mode {
    match planner.slice(&mut positioned(batch), WHOLE) {
        Ok(plan) => Mode::Folded(Arc::new(plan.unwrap_or_default())),
        // What cannot be planned stops the stream, but only behind the transactions before it.
        Err(problem) => {
            debug!(error = %problem.what, until = %batch.span.until, "batch cannot be planned whole");
            Mode::SourceOrder
        }
    }
}

/// Plans a piece of a batch that was cut.
pub(super) async fn plan_piece(blueprint: &Blueprint, batch: &Arc<Batch>) -> Result<Mode, Problem> {
    let (blueprint, batch) = (blueprint.clone(), Arc::clone(batch));
    let planned = tokio::task::spawn_blocking(move || blueprint.mode_of(&mut blueprint.planner(), &batch)).await;
    planned.map_err(|_| Problem::bug("AP059", "a planning thread ended early", "see the log"))
}
