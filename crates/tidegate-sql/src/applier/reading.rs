//! The changes of a batch, from where the target has it on.

use std::sync::Arc;

use tidegate_model::{Batch, Change, ChangeReader, Position, Problem, Transaction};
use tokio::sync::mpsc;

use super::planning::Blueprint;
use crate::plan::{Plan, Planner, SliceLimit};

/// Changes with the position of their transaction, as the planner takes them.
pub(super) type PositionedChanges<'a> = Box<dyn Iterator<Item = Result<(Position, Change), Problem>> + Send + 'a>;

/// Returns all changes of a batch one after another.
pub(super) fn positioned(batch: &Batch) -> PositionedChanges<'_> {
    Box::new((0..batch.transactions.len()).flat_map(|index| positioned_one(batch, index)))
}

/// Returns the changes of one of its transactions.
pub(super) fn positioned_one(batch: &Batch, index: usize) -> PositionedChanges<'static> {
    let transaction = &batch.transactions[index];
    let position = transaction.position.clone();
    match transaction.changes.read() {
        Ok(changes) => {
            let rest = Rest { changes, left: part_done(batch, transaction), position: position.clone() };
            Box::new(rest.map(move |change| Ok((position.clone(), change?))))
        }
        Err(problem) => Box::new(std::iter::once(Err(problem))),
    }
}

/// Returns how many changes of a transaction the target has already.
pub(super) fn part_done(batch: &Batch, transaction: &Transaction) -> u64 {
    let after = &batch.span.after;
    if after.commit == transaction.position.commit { after.part } else { 0 }
}

/// What is left of a transaction behind the changes that the target has. An error before is told all the same.
struct Rest {
    changes: ChangeReader,
    /// How many are still to be left out.
    left: u64,
    position: Position,
}

impl Iterator for Rest {
    type Item = Result<Change, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            match self.changes.next() {
                Some(Ok(_)) => self.left -= 1,
                Some(Err(problem)) => return Some(Err(problem)),
                None => {
                    let more = std::mem::take(&mut self.left);
                    return Some(Err(too_short(&self.position, more)));
                }
            }
        }
        self.changes.next()
    }
}

fn too_short(position: &Position, more: u64) -> Problem {
    Problem::definite(
        "AP071",
        format!("the transaction at {position} is shorter than what the target has of it"),
        format!(
            "it was being written in parts, and is told with {more} changes less than were written: the source does not \
             tell it as before"
        ),
        "find out what changed at the source (its publication, or the list of tables), then copy the tables again: \
         tidegate migrate --recopy TABLE",
    )
}

/// Changes that are planned together.
#[derive(Debug)]
pub(super) struct Slice {
    /// `None`: they cannot be planned together; source order tells why.
    pub(super) plan: Option<Plan>,
    pub(super) changes: Vec<(Position, Change)>,
    /// Whether nothing comes behind it.
    pub(super) last: bool,
}

/// How much of a spooled transaction is planned together. Together with the slices that are planned ahead it bounds
/// memory.
pub(super) const SLICE: SliceLimit = SliceLimit { bytes: 4 << 20, changes: 5_000 };
/// How much is planned together where a slice was refused for what another slice may hold.
pub(super) const TOGETHER: SliceLimit = SliceLimit { bytes: 32 << 20, changes: u64::MAX };
/// Slices planned ahead of the one that is being written.
const SLICES_AHEAD: usize = 1;

/// Reads a batch from disk and plans it slice by slice, on a thread of its own that ends with the receiver.
pub(super) fn slices(
    batch: &Arc<Batch>,
    blueprint: &Blueprint,
    limit: SliceLimit,
) -> mpsc::Receiver<Result<Slice, Problem>> {
    let (out, slices) = mpsc::channel(SLICES_AHEAD);
    let (batch, blueprint) = (Arc::clone(batch), blueprint.clone());
    std::thread::Builder::new()
        .name("tidegate-slice".to_owned())
        .spawn(move || plan_slices(&batch, &mut blueprint.planner(), limit, &out))
        .expect("the system starts threads");
    slices
}

fn plan_slices(batch: &Batch, planner: &mut Planner, limit: SliceLimit, out: &mpsc::Sender<Result<Slice, Problem>>) {
    let mut changes = positioned(batch).peekable();
    loop {
        let mut recorder = Recorder { changes: &mut changes, taken: Vec::new(), failed: None };
        let plan = planner.slice(&mut recorder, limit);
        let Recorder { taken, failed, .. } = recorder;
        let slice = match (failed, plan) {
            (Some(problem), _) => Err(problem),
            (None, Ok(None)) => return,
            (None, plan) => Ok(Slice { plan: plan.ok().flatten(), changes: taken, last: changes.peek().is_none() }),
        };
        let last = slice.as_ref().map_or(true, |slice| slice.last);
        if out.blocking_send(slice).is_err() || last {
            return;
        }
    }
}

/// Keeps the changes that a plan was made of. They share their bytes with the plan.
struct Recorder<'a, 'b> {
    changes: &'a mut std::iter::Peekable<PositionedChanges<'b>>,
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

#[cfg(test)]
mod tests {
    use tidegate_model::{Changes, Lsn, Span, Timestamp};

    use super::*;

    fn batch(part: u64, changes: usize) -> Batch {
        let message = |index| Change::Message { prefix: "tidegate".into(), content: vec![index as u8].into() };
        let changes = Changes::Memory((0..changes).map(message).collect());
        let position = Position::postgres(Lsn(20));
        let after = if part == 0 { Position::postgres(Lsn(10)) } else { Position { part, ..position.clone() } };
        let transactions =
            vec![Transaction { position: position.clone(), committed_at: Timestamp(0), xid: None, changes }];
        Batch { span: Span { after, until: position }, transactions }
    }

    #[test]
    fn a_transaction_that_the_target_has_in_part_goes_on_behind_it() {
        assert_eq!(positioned(&batch(0, 5)).count(), 5);
        let rest: Vec<Change> = positioned(&batch(3, 5)).map(|change| change.unwrap().1).collect();
        assert!(matches!(&rest[0], Change::Message { content, .. } if content[..] == [3]));
        assert_eq!(rest.len(), 2);
        assert_eq!(positioned(&batch(5, 5)).count(), 0);
    }

    #[test]
    fn a_transaction_that_has_become_shorter_is_refused() {
        let told: Vec<_> = positioned(&batch(6, 5)).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told.into_iter().next().unwrap().unwrap_err().code, "AP071");
    }
}
