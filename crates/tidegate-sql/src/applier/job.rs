//! A batch, or a part of one, on its way through the executor.

use std::sync::Arc;

use tidegate_model::{Batch, Changes, Position, Problem, Span, Transaction};

use super::exchange::Exchange;
use crate::plan::Plan;

/// What is written as one, and is not durable yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Arc<Batch>,
    pub(super) mode: Mode,
    /// Whether an accepted batch ends with it.
    pub(super) ends_batch: bool,
    /// The answers that are still to come, once it was sent.
    pub(super) sent: Option<Exchange>,
}

/// How a batch is written.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// Folded, with others behind it.
    Folded(Arc<Plan>),
    /// The same, but the plan is still to be made.
    Unplanned,
    /// Transaction by transaction and change by change, because the folded plan was refused or could not be made.
    SourceOrder,
    /// In one transaction, slice by slice, because it is on disk.
    Slices,
    /// One source transaction in several target transactions, because the target does not take it at once.
    Parts,
    /// Transaction by transaction and row by row, each judged by what it finds: both databases are open for writing.
    /// `patient`: rows that are refused for other rows may wait for them.
    Arbitrated { patient: bool },
}

impl Job {
    pub(super) fn new(batch: Arc<Batch>, mode: Mode) -> Self {
        Job { batch, mode, ends_batch: true, sent: None }
    }

    /// Returns how many source changes it has; `None`: some are on disk.
    pub(super) fn changes(&self) -> Option<u64> {
        self.batch.transactions.iter().map(changes_of).sum()
    }

    /// Goes from a folded plan that was refused to source order. What is not folded names its refusals itself, and a
    /// batch without transactions has nothing that can be refused.
    pub(super) fn go_to_source_order(&mut self) -> Result<(), Problem> {
        if !matches!(self.mode, Mode::Folded(_)) || self.batch.transactions.is_empty() {
            let what = format!("the target refused the batch up to {} for no reason it named", self.batch.span.until);
            return Err(Problem::bug("AP061", what, "neither a row nor a commit can have been refused"));
        }
        self.mode = Mode::SourceOrder;
        Ok(())
    }

    /// Drops what is durable at `position`; returns false where the position is none of this batch's.
    pub(super) fn resume_at(&mut self, position: &Position) -> bool {
        if self.batch.span.after == *position {
            return true;
        }
        let of_this = |done: &Transaction| done.position.commit == position.commit;
        let Some(index) = self.batch.transactions.iter().position(of_this) else { return false };
        let mut rest = Batch::clone(&self.batch);
        rest.span.after = position.clone();
        let arbitrated = matches!(self.mode, Mode::Arbitrated { .. });
        if position.part > 0 {
            rest.transactions.drain(..index);
            self.mode = if arbitrated { Mode::Arbitrated { patient: false } } else { Mode::Parts };
        } else {
            rest.transactions.drain(..=index);
            // Only source order commits in the middle of a batch; the folded plan would repeat what it committed.
            self.mode = match (rest.transactions.is_empty(), arbitrated) {
                (true, _) => Mode::Folded(Arc::default()),
                (false, true) => Mode::Arbitrated { patient: false },
                (false, false) => Mode::SourceOrder,
            };
        }
        self.batch = Arc::new(rest);
        true
    }

    /// Cuts it between source transactions into jobs of at most `rows_max` changes, one transaction at least, and cuts
    /// out those that `alone` is about. What was made of it as a whole is to be made anew.
    pub(super) fn cut(self, rows_max: u64, alone: impl Fn(&Transaction) -> bool) -> Vec<Job> {
        let mut pieces: Vec<Vec<Transaction>> = Vec::new();
        let (mut rows, mut closed) = (0, true);
        for transaction in &self.batch.transactions {
            let more = changes_of(transaction).unwrap_or(u64::MAX);
            let by_itself = alone(transaction);
            if closed || by_itself || u64::saturating_add(rows, more) > rows_max {
                pieces.push(Vec::new());
                rows = 0;
            }
            closed = by_itself;
            rows = u64::saturating_add(rows, more);
            pieces.last_mut().expect("there is one now").push(transaction.clone());
        }
        if pieces.len() < 2 {
            return vec![self];
        }
        let mut after = self.batch.span.after.clone();
        let count = pieces.len();
        let piece = |(index, transactions): (usize, Vec<Transaction>)| {
            let last = index + 1 == count;
            let end = transactions.last().map(|transaction| transaction.position.clone());
            let until = end.filter(|_| !last).unwrap_or_else(|| self.batch.span.until.clone());
            let span = Span { after: std::mem::replace(&mut after, until.clone()), until };
            let ends_batch = last && self.ends_batch;
            Job { ends_batch, ..Job::new(Arc::new(Batch { span, transactions }), Mode::Unplanned) }
        };
        pieces.into_iter().enumerate().map(piece).collect()
    }
}

fn changes_of(transaction: &Transaction) -> Option<u64> {
    match &transaction.changes {
        Changes::Memory(changes) => Some(changes.len() as u64),
        Changes::Spooled(_) => None,
    }
}

/// Returns whether a batch holds changes that are on disk.
pub(super) fn is_spooled(batch: &Batch) -> bool {
    batch.transactions.iter().any(|transaction| matches!(transaction.changes, Changes::Spooled(_)))
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Change, Lsn, Timestamp};

    use super::*;

    fn at(lsn: u64) -> Position {
        Position::postgres(Lsn(lsn))
    }

    fn transaction(lsn: u64, changes: usize) -> Transaction {
        let change = Change::Message { prefix: "tidegate".into(), content: bytes::Bytes::new() };
        let changes = Changes::Memory(vec![change; changes].into());
        Transaction { position: at(lsn), committed_at: Timestamp(0), xid: None, changes }
    }

    fn job(sizes: &[usize]) -> Job {
        let transactions: Vec<Transaction> =
            sizes.iter().enumerate().map(|(index, size)| transaction(11 + index as u64, *size)).collect();
        let until = at(99);
        Job::new(Arc::new(Batch { span: Span { after: at(10), until }, transactions }), Mode::Folded(Arc::default()))
    }

    #[test]
    fn pieces_cover_the_batch_without_gap_and_only_the_last_ends_it() {
        let pieces = job(&[2, 2, 9, 1, 3]).cut(4, |_| false);
        let sizes: Vec<u64> = pieces.iter().map(|piece| piece.changes().unwrap()).collect();
        assert_eq!(sizes, [4, 9, 4]);
        let mut after = at(10);
        for piece in &pieces {
            assert_eq!(piece.batch.span.after, after);
            after = piece.batch.span.until.clone();
        }
        assert_eq!(after, at(99));
        let ends: Vec<bool> = pieces.iter().map(|piece| piece.ends_batch).collect();
        assert_eq!(ends, [false, false, true]);
    }

    #[test]
    fn what_must_be_alone_is_cut_out() {
        let pieces = job(&[1, 1, 8, 1, 1]).cut(u64::MAX, |transaction| changes_of(transaction) == Some(8));
        assert_eq!(pieces.iter().map(|piece| piece.batch.transactions.len()).collect::<Vec<_>>(), [2, 1, 2]);
        assert_eq!(job(&[3]).cut(1, |_| false).len(), 1);
        assert_eq!(job(&[]).cut(1, |_| true).len(), 1);
    }

    #[test]
    fn a_batch_resumed_at_a_part_goes_on_in_parts() {
        let mut job = job(&[2, 9, 1]);
        let part = Position { part: 5, ..at(12) };
        assert!(job.resume_at(&part));
        assert!(matches!(job.mode, Mode::Parts));
        assert_eq!((job.batch.span.after.clone(), job.batch.transactions.len()), (part, 2));
    }
}
