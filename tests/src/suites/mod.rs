//! What every `Source` and every `Applier` must do, whatever is behind it.
//!
//! A harness gives a suite what the traits do not: committing at the source, looking into the target.

mod applier;
mod source;

use std::future::Future;
use std::time::Duration;

pub use applier::{ApplierHarness, applier_suite};
pub use source::{SourceHarness, source_suite};

/// How long a promise may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Polls a future once or a little longer, then drops it; returns its result if it had one.
async fn cancelled<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(1), future).await.ok()
}
