//! Growing pauses between attempts.

use std::time::Duration;

use tidegate_model::{Class, Problem};

use super::CopyConfig;
use super::progress::Reason;

/// Pauses that double up to a bound.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(config: &CopyConfig) -> Self {
        Backoff { first: config.pause_first, max: config.pause_max, next: config.pause_first }
    }

    /// Returns the next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        pause
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    /// Starts over with the shortest pause.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Returns the pause before attempt number `attempt` + 1.
pub(super) fn pause_after(config: &CopyConfig, attempt: u32) -> Duration {
    config.pause_first.saturating_mul(1 << attempt.min(16)).min(config.pause_max)
}

/// Tries an operation again until it succeeds or fails for good:
/// `loop { if let Some(result) = retry.settle(operation().await).await? { break result; } }`
#[derive(Debug)]
pub(super) struct Retry {
    pause: Backoff,
    reason: Reason,
}

impl Retry {
    pub(super) fn new(config: &CopyConfig, reason: &Reason) -> Self {
        Retry { pause: Backoff::new(config), reason: reason.clone() }
    }

    /// Returns a result or a problem that stays; `None` after a pause where trying again may help.
    pub(super) async fn settle<R: Send>(&mut self, result: Result<R, Problem>) -> Result<Option<R>, Problem> {
        match result {
            Ok(result) => {
                self.reason.clear();
                Ok(Some(result))
            }
            Err(problem) if problem.class == Class::Transient => {
                tracing::warn!(error = %problem.what, code = problem.code, "copy waits and tries again");
                self.reason.set(problem.what);
                self.pause.wait().await;
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }
}
