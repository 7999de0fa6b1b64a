//! Wrappers that make any applier fail, or watch it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate_model::{Applier, Batch, Position, Problem};
use tokio::sync::Notify;

/// What happens to a batch.
#[derive(Clone, Debug)]
pub enum BatchFault {
    /// It is refused and not written.
    Reject,
    /// It is written, and then its answer is an error: the target is further than anyone was told.
    ApplyThenFail,
    /// It is not written before the hold is released.
    Hold(Hold),
    /// It is handed over twice. What is inside must refuse the second one.
    DeliverTwice,
}

/// Something that can be let go. Clones are the same hold.
#[derive(Clone, Debug, Default)]
pub struct Hold {
    released: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl Hold {
    /// Lets go, now and for later.
    pub fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    async fn released(&self) {
        loop {
            let changed = self.changed.notified();
            if self.released.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }
}

/// An applier that fails as told. The first fault is for the first batch and so on; batches after the last one pass.
#[derive(Debug)]
pub struct Faulty<A> {
    inner: A,
    faults: VecDeque<Option<BatchFault>>,
    /// Held batches, and those behind them: their order is kept.
    waiting: VecDeque<(Option<Hold>, Batch)>,
    fail_past: Option<Position>,
}

impl<A: Applier> Faulty<A> {
    /// Wraps an applier.
    pub fn new(inner: A, faults: impl IntoIterator<Item = Option<BatchFault>>) -> Self {
        Faulty { inner, faults: faults.into_iter().collect(), waiting: VecDeque::new(), fail_past: None }
    }

    async fn pass_released(&mut self) -> Result<(), Problem> {
        while let Some((hold, batch)) = self.waiting.front() {
            if let Some(hold) = hold {
                hold.released().await;
            }
            // Taken out only afterwards: this call may be dropped while it waits.
            self.inner.submit(batch.clone()).await?;
            self.waiting.pop_front();
        }
        Ok(())
    }

    async fn pass(&mut self, batch: Batch) -> Result<(), Problem> {
        if self.waiting.is_empty() {
            return self.inner.submit(batch).await;
        }
        self.waiting.push_back((None, batch));
        Ok(())
    }
}

fn failure(what: &str) -> Problem {
    Problem::definite("TK004", what, "a test asked for it", "this is a test")
}

impl<A: Applier> Applier for Faulty<A> {
    async fn submit(&mut self, batch: Batch) -> Result<(), Problem> {
        match self.faults.pop_front().flatten() {
            None => self.pass(batch).await,
            Some(BatchFault::Reject) => Err(failure("the batch is rejected")),
            Some(BatchFault::ApplyThenFail) => {
                self.fail_past = Some(batch.span.after.clone());
                self.pass(batch).await
            }
            Some(BatchFault::Hold(hold)) => {
                self.waiting.push_back((Some(hold), batch));
                Ok(())
            }
            Some(BatchFault::DeliverTwice) => {
                self.pass(batch.clone()).await?;
                self.pass(batch).await
            }
        }
    }

    async fn durable(&mut self, than: &Position) -> Result<Position, Problem> {
        self.pass_released().await?;
        let durable = self.inner.durable(than).await?;
        match &self.fail_past {
            Some(limit) if durable > *limit => Err(failure("the answer is lost")),
            _ => Ok(durable),
        }
    }
}

/// What a [`Counting`] applier has seen. Clones are the same counts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    batches: Arc<AtomicU64>,
    transactions: Arc<AtomicU64>,
}

impl Counts {
    /// Returns how many batches were submitted.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::SeqCst)
    }

    /// Returns how many transactions they held.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::SeqCst)
    }
}

/// An applier that counts what passes.
#[derive(Debug)]
pub struct Counting<A> {
    inner: A,
    counts: Counts,
}

impl<A: Applier> Counting<A> {
    /// Wraps an applier.
    pub fn new(inner: A) -> Self {
        Counting { inner, counts: Counts::default() }
    }

    /// Returns a view of its counts.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

impl<A: Applier> Applier for Counting<A> {
    async fn submit(&mut self, batch: Batch) -> Result<(), Problem> {
        self.counts.batches.fetch_add(1, Ordering::SeqCst);
        self.counts.transactions.fetch_add(batch.transactions.len() as u64, Ordering::SeqCst);
        self.inner.submit(batch).await
    }

    async fn durable(&mut self, than: &Position) -> Result<Position, Problem> {
        self.inner.durable(than).await
    }
}
