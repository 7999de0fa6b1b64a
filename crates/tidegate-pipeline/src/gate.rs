//! How far a pipeline may go, and the handle by which others say so.
//!
//! Verifying and turning need to hold the applier exactly where they want it, while the reading goes on. They do it with
//! these few words and never touch the loop itself.

use tidegate_model::{Change, Changes, Position, Problem, Transaction};
use tokio::sync::{mpsc, oneshot, watch};

use crate::pipeline::Progress;

/// How far batches may go.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Gate {
    /// As far as there is something.
    #[default]
    Open,
    /// Nowhere. Reading goes on.
    Held,
    /// Up to this position and no further: the last batch is cut there.
    Until(Position),
    /// Over watermarks only. The source is not open for writing, so a transaction that arrives is nobody's but a
    /// breach: it stays pending, and the checkpoint in front of it.
    Parked,
}

impl Gate {
    /// Returns whether a transaction may pass.
    pub(crate) fn lets(&self, position: &Position) -> bool {
        match self {
            Gate::Open => true,
            Gate::Held | Gate::Parked => false,
            Gate::Until(limit) => position.is_at_or_before(limit),
        }
    }
}

/// A transaction that was received and not given to the applier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where it ends.
    pub position: Position,
    /// Its id at a PostgreSQL source.
    pub xid: Option<u32>,
    /// Whether it changes a row, or holds nothing but messages.
    pub changes_rows: bool,
}

impl Pending {
    pub(crate) fn of(transaction: &Transaction) -> Self {
        let (position, xid) = (transaction.position.clone(), transaction.xid);
        Pending { position, xid, changes_rows: changes_rows(transaction) }
    }
}

/// Returns whether a transaction holds more than messages.
pub(crate) fn changes_rows(transaction: &Transaction) -> bool {
    match &transaction.changes {
        Changes::Memory(changes) => changes.iter().any(|change| !matches!(change, Change::Message { .. })),
        Changes::Spooled(_) => true,
    }
}

/// What a pipeline has received, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Everything at or before it has been received.
    pub received: Position,
    /// Received and not given to the applier, in commit order.
    pub pending: Vec<Pending>,
    /// The ids of the transactions that were given to the applier last, the newest last.
    pub taken: Vec<u32>,
}

/// What a handle asks of the loop.
#[derive(Debug)]
pub(crate) enum Question {
    Queue(oneshot::Sender<Queue>),
    DropUntil(Position, oneshot::Sender<Vec<Pending>>),
}

/// Steers a running pipeline. Cheap to clone. Every call fails once the pipeline has ended.
#[derive(Clone, Debug)]
pub struct Handle {
    gate: watch::Sender<Gate>,
    progress: watch::Receiver<Progress>,
    questions: mpsc::Sender<Question>,
}

impl Handle {
    pub(crate) fn new(
        gate: watch::Sender<Gate>,
        progress: watch::Receiver<Progress>,
        questions: mpsc::Sender<Question>,
    ) -> Self {
        Handle { gate, progress, questions }
    }

    /// Says how far batches may go from now on. What is in flight goes on.
    pub fn set(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    /// Returns how far batches may go.
    pub fn gate(&self) -> Gate {
        self.gate.borrow().clone()
    }

    /// Returns a view of how far the pipeline is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Holds the applier, with no COMMIT unanswered, and returns where it is.
    pub async fn hold(&self) -> Result<Position, Problem> {
        self.set(Gate::Held);
        let still = self.wait(|progress| progress.gate == Gate::Held && progress.in_flight == 0).await?;
        Ok(still.applied)
    }

    /// Lets the applier go exactly to `limit` and holds it there, with no COMMIT unanswered.
    pub async fn advance(&self, limit: &Position) -> Result<(), Problem> {
        let gate = Gate::Until(limit.clone());
        self.set(gate.clone());
        self.wait(|progress| progress.gate == gate && progress.in_flight == 0 && progress.applied >= *limit).await?;
        Ok(())
    }

    /// Waits until everything at or before `position` has been received.
    pub async fn received(&self, position: &Position) -> Result<(), Problem> {
        self.wait(|progress| progress.received >= *position).await.map(drop)
    }

    /// Waits until everything at or before `position` is durable at the target.
    pub async fn applied(&self, position: &Position) -> Result<(), Problem> {
        self.wait(|progress| progress.applied >= *position).await.map(drop)
    }

    /// Returns what has been received.
    pub async fn queue(&self) -> Result<Queue, Problem> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question::Queue(answer)).await.map_err(|_gone| has_ended())?;
        answered.await.map_err(|_gone| has_ended())
    }

    /// Gives up, for good, what a parked pipeline has received up to `position`, and returns it. Of one that is not parked
    /// nothing is given up.
    pub async fn drop_until(&self, position: &Position) -> Result<Vec<Pending>, Problem> {
        let (answer, answered) = oneshot::channel();
        let question = Question::DropUntil(position.clone(), answer);
        self.questions.send(question).await.map_err(|_gone| has_ended())?;
        answered.await.map_err(|_gone| has_ended())
    }

    async fn wait(&self, reached: impl FnMut(&Progress) -> bool) -> Result<Progress, Problem> {
        let mut progress = self.progress.clone();
        let now = progress.wait_for(reached).await.map_err(|_gone| has_ended())?;
        Ok(now.clone())
    }
}

fn has_ended() -> Problem {
    let next = "see what ended it: tidegate status; what was asked is asked again once it runs";
    Problem::transient("PL003", "the pipeline has ended", "it was stopped, or something stopped it", next)
}
