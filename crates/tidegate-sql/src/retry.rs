//! Transactions that the server wants to be run again: CockroachDB's way of saying that two of them collided.

use std::time::Duration;

use tidegate_model::Problem;
use tokio::time::sleep;
use tokio_postgres::Error;

/// The transaction collided with another one and left nothing behind.
pub(crate) const COLLIDED: &str = "40001";
/// Whether the transaction took effect is not known.
pub(crate) const AMBIGUOUS: &str = "40003";

/// How often one is run before the collision is passed on, as a problem that may pass.
const ATTEMPTS_MAX: u32 = 30;
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The pauses between attempts: longer and longer, and never the same for two who collide.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    left: u32,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Pauses { next: PAUSE_FIRST, left: ATTEMPTS_MAX }
    }

    /// Waits before another attempt; returns false where there were enough.
    pub(crate) async fn another(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        sleep(self.next.mul_f64(fraction())).await;
        self.next = (self.next * 2).min(PAUSE_MAX);
        true
    }
}

/// A number from 0.5 to 1, as good as a random one for this purpose.
fn fraction() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    0.5 + f64::from(now.subsec_nanos() % 1000) / 2000.0
}

/// Runs a transaction, from its BEGIN to its COMMIT, again for as long as it collides with others. An attempt that fails
/// leaves no transaction open.
pub(crate) async fn collided<T, F>(attempt: impl FnMut() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    again(&[COLLIDED], attempt).await
}

/// The same for what does no harm when it is done twice: it is also run again where nobody knows whether it took effect.
pub(crate) async fn repeatable<T, F>(attempt: impl FnMut() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    again(&[COLLIDED, AMBIGUOUS], attempt).await
}

async fn again<T, F>(states: &[&str], mut attempt: impl FnMut() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let mut pauses = Pauses::new();
    loop {
        match attempt().await {
            Err(problem) if sqlstate(&problem).is_some_and(|state| states.contains(&state)) => {
                tracing::debug!(error = %problem.why, "a transaction is run again");
                if !pauses.another().await {
                    return Err(problem);
                }
            }
            decided => return decided,
        }
    }
}

/// Returns the SQLSTATE of the error below a problem.
pub(crate) fn sqlstate(problem: &Problem) -> Option<&str> {
    let error = problem.source.as_deref()?.downcast_ref::<Error>()?;
    error.code().map(|state| state.code())
}
