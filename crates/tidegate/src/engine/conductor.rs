//! Does what commands ask of the streams that this process owns.
//!
//! ```text
//!   request table --> serve (one for each stream) --> Seat::requests --> Conductor --> drain | verify | turn | finish
//! ```

use std::sync::Arc;

use serde_json::json;
use tidegate_model::{Problem, Stream};
use tidegate_sql::requests::{DRAIN, FINISH, TURN, Taken, VERIFY, drain_position, unknown_kind};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::seat::Seat;
use super::{turning, verifying};
use crate::config::Migration;

/// Whoever does requests.
#[derive(Debug)]
pub struct Conductor {
    pub migration: Migration,
    pub forward: Arc<Seat>,
    pub reverse: Arc<Seat>,
    /// Comparing and turning hold the applier: one at a time.
    pub baton: Mutex<()>,
    /// Ends both streams.
    pub stop: CancellationToken,
}

impl Conductor {
    /// Returns the seat of a stream.
    pub fn seat(&self, stream: Stream) -> &Seat {
        match stream {
            Stream::Forward => &self.forward,
            Stream::Reverse => &self.reverse,
        }
    }

    /// Does requests for as long as the streams run.
    pub async fn run(
        self: Arc<Self>,
        mut forward: mpsc::Receiver<Taken>,
        mut reverse: mpsc::Receiver<Taken>,
    ) -> std::convert::Infallible {
        let mut doing = JoinSet::new();
        loop {
            let (seat, taken) = tokio::select! {
                Some(taken) = forward.recv() => (Arc::clone(&self.forward), taken),
                Some(taken) = reverse.recv() => (Arc::clone(&self.reverse), taken),
                Some(done) = doing.join_next() => {
                    // A panic was reported by the panic hook, and its request is answered as dropped.
                    drop(done);
                    continue;
                }
                else => std::future::pending().await,
            };
            doing.spawn(Arc::clone(&self).answer(seat, taken));
        }
    }

    async fn answer(self: Arc<Self>, seat: Arc<Seat>, taken: Taken) {
        let done = match taken.request.kind.as_str() {
            DRAIN => drain(&seat, &taken).await,
            VERIFY => {
                let _baton = self.take_baton(&taken).await;
                verifying::verify(&self, &seat, &taken).await
            }
            TURN => {
                let _baton = self.take_baton(&taken).await;
                Box::pin(turning::run(&self, &taken)).await
            }
            FINISH => {
                info!("the migration is over: the streams end");
                return self.stop.cancel();
            }
            _ => Err(unknown_kind(&taken.request)),
        };
        match done {
            Ok(answer) => taken.answer(answer),
            Err(problem) => taken.refuse(&problem),
        }
    }
}

impl Conductor {
    /// Waits until nobody else compares or turns, and says so.
    async fn take_baton(&self, taken: &Taken) -> MutexGuard<'_, ()> {
        if let Ok(baton) = self.baton.try_lock() {
            return baton;
        }
        taken.progress(json!({ "said": "waits until another comparison or turn has ended" }));
        self.baton.lock().await
    }
}

async fn drain(seat: &Seat, taken: &Taken) -> Result<serde_json::Value, Problem> {
    let position = drain_position(&taken.request)?;
    let applied = seat.applied(&position).await;
    info!(%position, %applied, stream = %seat.stream, "drained");
    Ok(json!({ "position": position.to_string(), "applied_position": applied.to_string() }))
}
