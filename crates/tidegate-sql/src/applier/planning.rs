//! Planning on a thread of its own, so that it overlaps with the target's work.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use tidegate_model::{Batch, Change, Position, Problem, TableRoute, Transaction};
use tokio::sync::mpsc;
use tracing::debug;

use super::job::{Job, Mode, is_spooled};
use crate::plan::{Plan, Planner, SessionRights, SliceLimit};

/// A batch in memory is folded whole: its size was bounded when it was made.
const WHOLE: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

/// Changes with the position of their transaction, as the planner takes them.
pub(super) type PositionedChanges<'a> = Box<dyn Iterator<Item = Result<(Position, Change), Problem>> + Send + 'a>;

/// The way into the thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct PlanningThread {
    batches: Sender<Batch>,
}

impl PlanningThread {
    /// Starts the thread. Neither channel ever fills: no more than `batches_max` batches are under way.
    pub(super) fn start(
        routes: Vec<TableRoute>,
        rights: SessionRights,
        batches_max: usize,
    ) -> (Self, mpsc::Receiver<Job>) {
        let (batches, given) = bounded(batches_max);
        let (planned, jobs) = mpsc::channel(batches_max);
        std::thread::Builder::new()
            .name("tidegate-plan".to_owned())
            .spawn(move || plan_batches(Planner::new(routes, rights), &given, &planned))
            .expect("the system starts threads");
        (PlanningThread { batches }, jobs)
    }

    pub(super) fn take(&self, batch: Batch) {
        // An error means that the thread has ended with the executor, which has told why.
        let _ = self.batches.send(batch);
    }
}

fn plan_batches(mut planner: Planner, batches: &Receiver<Batch>, jobs: &mpsc::Sender<Job>) {
    for batch in batches {
        let mode = mode_of(&mut planner, &batch);
        if jobs.blocking_send(Job::new(Arc::new(batch), mode)).is_err() {
            return;
        }
    }
}

fn mode_of(planner: &mut Planner, batch: &Batch) -> Mode {
    if is_spooled(batch) {
        return Mode::Slices;
    }
    let mut changes = positioned(&batch.transactions);
    match planner.slice(&mut changes, WHOLE) {
        Ok(plan) => Mode::Folded(Arc::new(plan.unwrap_or_default())),
        // What cannot be planned stops the stream, but only behind the transactions before it.
        Err(problem) => {
            debug!(error = %problem.what, until = %batch.span.until, "batch cannot be planned whole");
            Mode::SourceOrder
        }
    }
}

/// Returns all changes of some transactions one after another.
pub(super) fn positioned(transactions: &[Transaction]) -> PositionedChanges<'_> {
    Box::new(transactions.iter().flat_map(positioned_one))
}

/// Returns the changes of one transaction.
pub(super) fn positioned_one(transaction: &Transaction) -> PositionedChanges<'static> {
    let position = transaction.position.clone();
    match transaction.changes.read() {
        Ok(changes) => Box::new(changes.map(move |change| Ok((position.clone(), change?)))),
        Err(problem) => Box::new(std::iter::once(Err(problem))),
    }
}

/// Changes of a spooled transaction that are planned together.
#[derive(Debug)]
pub(super) struct Slice {
    /// `None`: they cannot be planned together; source order tells why.
    pub(super) plan: Option<Plan>,
    pub(super) changes: Vec<(Position, Change)>,
}

/// How much of a spooled transaction is planned together. Together with the slices that are planned ahead it bounds
/// memory.
const SLICE: SliceLimit = SliceLimit { bytes: 4 << 20, changes: 5_000 };
/// Slices planned ahead of the one that is being written.
const SLICES_AHEAD: usize = 1;

/// Reads a batch from disk and plans it slice by slice, on a thread of its own that ends with the receiver.
pub(super) fn slices(
    batch: &Arc<Batch>,
    routes: Vec<TableRoute>,
    rights: SessionRights,
) -> mpsc::Receiver<Result<Slice, Problem>> {
    let (out, slices) = mpsc::channel(SLICES_AHEAD);
    let batch = Arc::clone(batch);
    std::thread::Builder::new()
        .name("tidegate-slice".to_owned())
        .spawn(move || plan_slices(&batch, Planner::new(routes, rights), &out))
        .expect("the system starts threads");
    slices
}

fn plan_slices(batch: &Batch, mut planner: Planner, out: &mpsc::Sender<Result<Slice, Problem>>) {
    let mut changes = positioned(&batch.transactions);
    loop {
        let mut recorder = Recorder { changes: &mut changes, taken: Vec::new(), failed: None };
        let plan = planner.slice(&mut recorder, SLICE);
        let slice = match (recorder.failed, plan) {
            (Some(problem), _) => Err(problem),
            (None, Ok(None)) => return,
            (None, plan) => Ok(Slice { plan: plan.ok().flatten(), changes: recorder.taken }),
        };
        let last = slice.is_err();
        if out.blocking_send(slice).is_err() || last {
            return;
        }
    }
}

/// Keeps the changes that a plan was made of. They share their bytes with the plan.
struct Recorder<'a, 'b> {
    changes: &'a mut PositionedChanges<'b>,
    taken: Vec<(Position, Change)>,
    failed: Option<Problem>,
}

impl Iterator for Recorder<'_, '_> {
    type Item = Result<(Position, Change), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.changes.next()? {
            Ok(change) => {
                self.taken.push(change.clone());
                Some(Ok(change))
            }
            // Ends the plan here; the failure is told in its place.
            Err(problem) => {
                self.failed = Some(problem);
                None
            }
        }
    }
}
