//! Pauses between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// After a conflict: the other transaction is over by then, most often.
const FIRST_AFTER_CONFLICT: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from attempt to attempt, and begins anew after a success.
#[derive(Debug)]
pub(super) struct Backoff(Option<Duration>);

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff(None)
    }

    pub(super) fn reset(&mut self) {
        self.0 = None;
    }

    /// Waits until what is not there may be there again.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.next(FIRST)).await;
    }

    /// Waits until two who were in each other's way have made room, not both for the same time.
    pub(super) async fn pause_after_conflict(&mut self) {
        let pause = self.next(FIRST_AFTER_CONFLICT);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    }

    fn next(&mut self, first: Duration) -> Duration {
        let pause = self.0.unwrap_or(first);
        self.0 = Some((pause * 2).min(LONGEST));
        pause
    }
}
