//! Requests sent without waiting, and their answers in order.
//!
//! A request of tokio-postgres goes on its way when its future is polled for the first time, so a request is sent by
//! polling it once and kept for later. Answers are taken in the order of the requests: the connection hands out one
//! request's answer at a time and reads no further until somebody takes it.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::Error;

/// Which part of a transaction a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    /// The compare-and-set of the checkpoint row.
    Checkpoint,
    Savepoint,
    /// The statement with this number.
    Statement(usize),
    Commit,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Requests of one transaction, or of a part of it.
#[derive(Default)]
pub(super) struct Exchange {
    waiting: VecDeque<(Step, Answer)>,
    failed: Option<(Step, Error)>,
}

impl Exchange {
    /// Sends a request behind those sent before. Returns false where it could not even be sent: nothing may be sent
    /// behind it then, least of all a COMMIT.
    pub(super) async fn send(
        &mut self,
        step: Step,
        request: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> bool {
        let mut answer: Answer = Box::pin(request);
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Pending => self.waiting.push_back((step, answer)),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.failed.get_or_insert((step, error));
                return false;
            }
        }
        true
    }

    /// Waits for all answers. Cancel-safe.
    pub(super) async fn answered(&mut self) {
        while let Some((step, answer)) = self.waiting.front_mut() {
            let step = *step;
            if let Err(error) = answer.await {
                // What follows fails only because of this one: the transaction is aborted.
                self.failed.get_or_insert((step, error));
            }
            self.waiting.pop_front();
        }
    }

    /// Waits for all answers and returns the first error. Cancel-safe.
    pub(super) async fn outcome(&mut self) -> Result<(), (Step, Error)> {
        self.answered().await;
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("waiting", &self.waiting.len()).field("failed", &self.failed).finish()
    }
}
