//! Not reading faster than asked.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Sleeping for every row would cost more than the row; several times a second is even enough.
const NAPS_PER_SECOND: u32 = 20;

/// Slows a reader down to so many rows a second. What it does not take, the network holds back at the server.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    rows: u64,
    per_second: Option<NonZeroU32>,
}

impl Pace {
    pub(super) fn new(per_second: Option<NonZeroU32>) -> Pace {
        Pace { started: Instant::now(), rows: 0, per_second }
    }

    /// Counts a row; waits where it came too early.
    pub(super) async fn row(&mut self) {
        let Some(per_second) = self.per_second else { return };
        self.rows += 1;
        let between_naps = u64::from((per_second.get() / NAPS_PER_SECOND).max(1));
        if self.rows.is_multiple_of(between_naps) {
            let due = Duration::from_secs_f64(self.rows as f64 / f64::from(per_second.get()));
            sleep_until(self.started + due).await;
        }
    }
}
