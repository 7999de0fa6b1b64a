//! The loop, and what it shows of itself.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_model::{Applier, Batch, Checkpoint, Event, Position, Problem, Source, Span, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::batcher::{BatchLimits, Batcher};
use crate::gate::{Gate, Handle, Question, Queue};

/// How long a stop waits for batches that are under way. They are whole transactions at the target: what is not durable
/// by then is rolled back there and read again at the next start.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Questions that wait for the loop.
const QUESTIONS_MAX: usize = 8;

/// How far a pipeline is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Everything at or before it is durable at the target.
    pub applied: Position,
    /// Everything at or before it has been received from the source.
    pub received: Position,
    /// Commit time of the oldest transaction that was given to the applier and is not durable yet.
    pub oldest_waiting: Option<Timestamp>,
    /// Transactions made durable since the start.
    pub transactions: u64,
    /// Batches given to the applier and not yet durable.
    pub in_flight: usize,
    /// Transactions that change rows, were received, and not given to the applier. Counted only while a gate holds them
    /// back.
    pub pending: usize,
    /// How far batches may go, as the loop has taken note of it.
    pub gate: Gate,
}

/// Why a pipeline ended without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Where the target is.
    pub applied: Position,
    /// Whether every batch under way was finished within the deadline.
    pub clean: bool,
}

/// Sees every batch that is given to the applier.
pub type Observer = Box<dyn FnMut(&Batch) + Send>;

#[derive(Debug)]
struct InFlight {
    span: Span,
    first_committed_at: Option<Timestamp>,
    transactions: u64,
}

/// One direction of one migration, running.
pub struct Pipeline<S, A> {
    source: S,
    applier: A,
    batcher: Batcher,
    /// The end of the last whole batch that is durable.
    checkpoint: Checkpoint,
    /// What the applier last reported. Past the checkpoint where it had to replay a batch transaction by transaction.
    durable: Position,
    in_flight: VecDeque<InFlight>,
    progress: watch::Sender<Progress>,
    gate: watch::Receiver<Gate>,
    questions: mpsc::Receiver<Question>,
    handle: Handle,
    observer: Option<Observer>,
}

impl<S, A> std::fmt::Debug for Pipeline<S, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

impl<S: Source, A: Applier> Pipeline<S, A> {
    /// Joins a source and an applier that both stand at `start`.
    pub fn new(source: S, applier: A, start: Position, limits: BatchLimits) -> Self {
        let progress = Progress {
            applied: start.clone(),
            received: start.clone(),
            oldest_waiting: None,
            transactions: 0,
            in_flight: 0,
            pending: 0,
            gate: Gate::Open,
        };
        let progress = watch::Sender::new(progress);
        let (gates, gate) = watch::channel(Gate::Open);
        let (asked, questions) = mpsc::channel(QUESTIONS_MAX);
        let handle = Handle::new(gates, progress.subscribe(), asked);
        Pipeline {
            source,
            applier,
            batcher: Batcher::new(limits, start.clone(), Instant::now()),
            checkpoint: Checkpoint { applied: start.clone() },
            durable: start,
            in_flight: VecDeque::new(),
            progress,
            gate,
            questions,
            handle,
            observer: None,
        }
    }

    /// Shows every batch that is given to the applier to `observer`, before it is.
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Returns what steers the pipeline.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns a view of how far the pipeline is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Returns the source, for an orderly end: the pipeline is over.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Runs until `stop` is cancelled or something definite happens. Not to be called again after that.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<Ended, Problem> {
        self.take_gate();
        loop {
            let due = self.batcher.due(self.in_flight.len());
            let room = self.batcher.has_room();
            tokio::select! {
                biased; // stop first, then finished batches, then new input
                () = stop.cancelled() => return self.finish().await,
                // The sender is ours: it goes with us.
                Ok(()) = self.gate.changed() => self.take_gate(),
                Some(question) = self.questions.recv() => self.answer(question),
                durable = self.applier.durable(&self.durable), if !self.in_flight.is_empty() => {
                    self.acknowledge(durable?).await?;
                }
                () = at(due), if due.is_some() => self.submit().await?,
                event = input(&mut self.source, room) => self.batcher.push(event?, Instant::now())?,
            }
            self.show();
        }
    }

    fn take_gate(&mut self) {
        let gate = self.gate.borrow_and_update().clone();
        debug!(?gate, "gate set");
        self.batcher.set_gate(gate);
    }

    fn answer(&mut self, question: Question) {
        // Who asked may have gone.
        match question {
            Question::Queue(answer) => {
                let received = self.batcher.received().clone();
                let _ = answer.send(Queue { received, pending: self.batcher.pending(), taken: self.batcher.taken() });
            }
            Question::DropUntil(position, answer) => {
                let dropped = self.batcher.drop_until(&position);
                info!(%position, transactions = dropped.len(), "given up");
                let _ = answer.send(dropped);
            }
        }
    }

    async fn submit(&mut self) -> Result<(), Problem> {
        let batch = self.batcher.take(Instant::now());
        if let Some(observer) = &mut self.observer {
            observer(&batch);
        }
        let first_committed_at = batch.transactions.first().map(|transaction| transaction.committed_at);
        let transactions = batch.transactions.len() as u64;
        debug!(until = %batch.span.until, transactions, bytes = batch.memory_bytes(), "batch submitted");
        self.in_flight.push_back(InFlight { span: batch.span.clone(), first_committed_at, transactions });
        self.applier.submit(batch).await
    }

    /// The only place where the source is told that it may forget, and only what is durable at the target.
    async fn acknowledge(&mut self, durable: Position) -> Result<(), Problem> {
        while let Some(front) = self.in_flight.front()
            && front.span.until <= durable
        {
            let done = self.in_flight.pop_front().expect("the front is there");
            self.checkpoint.advance(&done.span).map_err(|error| {
                Problem::bug("PL002", "a batch does not begin where the last one ended", error.to_string())
            })?;
            self.progress.send_modify(|progress| progress.transactions += done.transactions);
        }
        self.durable = durable;
        self.source.acknowledge(&self.durable).await
    }

    /// Takes no new input, waits for what is under way and tells the source.
    async fn finish(&mut self) -> Result<Ended, Problem> {
        let waiting = async {
            while let Some(last) = self.in_flight.back() {
                let last = last.span.until.clone();
                let durable = self.applier.durable(&self.durable).await?;
                self.acknowledge(durable).await?;
                debug!(applied = %self.durable, %last, "waiting for batches under way");
            }
            Ok(())
        };
        let clean = match timeout(STOP_DEADLINE, waiting).await {
            Ok(finished) => finished.map(|()| true)?,
            Err(_elapsed) => {
                info!(late = "applier", batches = self.in_flight.len(), "stopped without waiting any longer");
                false
            }
        };
        self.show();
        Ok(Ended { applied: self.durable.clone(), clean })
    }

    fn show(&self) {
        self.progress.send_if_modified(|progress| {
            let before = progress.clone();
            progress.applied = self.durable.clone();
            progress.received = self.batcher.received().clone();
            progress.in_flight = self.in_flight.len();
            // An open gate holds nothing back, and its queue may be long.
            progress.pending = if *self.batcher.gate() == Gate::Open { 0 } else { self.batcher.waiting() };
            progress.gate = self.batcher.gate().clone();
            progress.oldest_waiting = self.in_flight.iter().find_map(|batch| batch.first_committed_at);
            before != *progress
        });
    }
}

/// Takes the next event if there is room for it; otherwise waits only for what must not wait.
async fn input<S: Source>(source: &mut S, room: bool) -> Result<Event, Problem> {
    if room { source.next().await } else { Err(source.failed().await) }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
