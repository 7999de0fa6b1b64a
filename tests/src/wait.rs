//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How long most conditions may take on a busy machine before a test calls it a failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again and again until `condition` gives a value.
///
/// # Panics
/// When that takes longer than `limit`; the message is `what`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Waits until `condition` holds, as [`wait_for`] does.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}
