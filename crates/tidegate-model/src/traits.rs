//! The two ends of a pipeline.

use std::future::Future;

use crate::{Batch, Position, Problem, Transaction};

/// What a source tells.
#[derive(Debug, Clone)]
pub enum Event {
    /// A transaction was committed.
    Commit(Transaction),
    /// Nothing at or before this position is still to come (PostgreSQL: a keepalive with nothing in flight).
    Watermark(Position),
}

/// Reads one history in order. Keeps its own connection alive while nobody is polling it.
///
/// Rules, held by the conformance suite `source_suite`: positions of events never go back, and only a watermark may repeat
/// one; every transaction after the start position comes exactly once; after an error the source is finished.
/// A source reconnects by itself after transient errors and gives only definite ones and bugs to its caller.
pub trait Source: Send {
    /// Waits for the next event. Cancel-safe: a dropped call loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Event, Problem>> + Send;

    /// Waits for an error that must not wait until the events before it are taken: with a target that does not follow they
    /// may never be. Cancel-safe. A source without such errors waits for ever.
    fn failed(&mut self) -> impl Future<Output = Problem> + Send {
        std::future::pending()
    }

    /// Everything up to `position` is durable at the target; the source may forget it. Returns once the word is on its
    /// way; saying the same or an older position again changes nothing.
    fn acknowledge(&mut self, position: &Position) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Writes batches to a target.
///
/// Rules, held by the conformance suite `applier_suite`: each batch is written whole, with its checkpoint, or not at all; a
/// batch whose span does not begin where the last one ended is refused; after an error nothing behind it is written. An
/// applier reconnects by itself after transient errors, settles lost answers by reading the checkpoint, and gives only
/// definite errors and bugs to its caller.
pub trait Applier: Send {
    /// Accepts the next batch, which is written with its checkpoint in one target transaction. Batches take effect in the
    /// order given; several may be under way. Returning does not mean durable. Waits while too many are under way;
    /// cancel-safe in that a call dropped while waiting has not taken the batch.
    fn submit(&mut self, batch: Batch) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Waits for the newest durable position past `than`. Cancel-safe. A definite error is given only after everything
    /// before it is durable and has been reported.
    fn durable(&mut self, than: &Position) -> impl Future<Output = Result<Position, Problem>> + Send;
}
