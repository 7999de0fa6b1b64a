//! Transactions of an owner, at either server.

use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio_postgres::Error;

use super::{Lease, displaced};
use crate::dialect::Dialect;
use crate::retry;
use crate::server_error::DIVISION_BY_ZERO;

/// Returns what begins a transaction. PostgreSQL's are of a level at which a statement waits for what another one
/// writes and then sees it; CockroachDB's are serializable, and are run again.
pub(crate) fn begin_sql(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        Dialect::Cockroach => "BEGIN",
    }
}

/// Does something in a transaction that only the owner of the stream can have, from the beginning again where it
/// collides with another one. What it does must bear to be done twice. `before` are statements of PostgreSQL's
/// transaction alone, such as a limit on waiting for locks; `failed` makes the problem of a transaction that cannot be
/// begun or committed.
pub(crate) async fn under_lease<T, F>(
    session: &Session,
    lease: &Lease,
    before: &str,
    failed: impl Fn(Error) -> Problem,
    work: impl Fn() -> F,
) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let dialect = Dialect::of(session);
    let before = if dialect.is_cockroach() { "" } else { before };
    let begin = format!("{}; {before}{}", begin_sql(dialect), lease.guard_sql(dialect));
    retry::repeatable(|| async {
        if let Err(error) = session.batch_execute(&begin).await {
            let is_displaced = error.code().is_some_and(|state| state.code() == DIVISION_BY_ZERO);
            rollback(session).await;
            return Err(if is_displaced { displaced(lease) } else { failed(error) });
        }
        let done = match work().await {
            Ok(done) => session.batch_execute("COMMIT").await.map(|()| done).map_err(&failed),
            Err(problem) => Err(problem),
        };
        if done.is_err() {
            rollback(session).await;
        }
        done
    })
    .await
}

/// Its own failure says nothing new: the connection is gone, and the transaction with it.
async fn rollback(session: &Session) {
    let _ = session.batch_execute("ROLLBACK").await;
}
