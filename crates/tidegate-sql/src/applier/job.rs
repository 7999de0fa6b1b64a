//! A batch on its way through the executor.

use std::sync::Arc;

use tidegate_model::{Batch, Changes, Position, Problem};

use super::exchange::Exchange;
use crate::plan::Plan;

/// An accepted batch that is not durable yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Arc<Batch>,
    pub(super) mode: Mode,
    /// The answers that are still to come, once the batch was sent.
    pub(super) sent: Option<Exchange>,
}

/// How a batch is written.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// Folded, with others behind it.
    Folded(Arc<Plan>),
    /// Transaction by transaction and change by change, because the folded plan was refused or could not be made.
    SourceOrder,
    /// Slice by slice, because it is on disk.
    Slices,
}

impl Job {
    pub(super) fn new(batch: Arc<Batch>, mode: Mode) -> Self {
        Job { batch, mode, sent: None }
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
        let Some(done) = self.batch.transactions.iter().position(|done| done.position == *position) else {
            return false;
        };
        let mut rest = Batch::clone(&self.batch);
        rest.span.after = position.clone();
        rest.transactions.drain(..=done);
        // Only source order commits in the middle of a batch; the folded plan would repeat what it committed.
        self.mode = if rest.transactions.is_empty() { Mode::Folded(Arc::default()) } else { Mode::SourceOrder };
        self.batch = Arc::new(rest);
        true
    }
}

/// Returns whether a batch holds changes that are on disk.
pub(super) fn is_spooled(batch: &Batch) -> bool {
    batch.transactions.iter().any(|transaction| matches!(transaction.changes, Changes::Spooled(_)))
}
