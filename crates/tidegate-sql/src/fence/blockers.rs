//! Who holds the locks that a fence waits for.

use std::fmt;
use std::time::Duration;

use tidegate_connect::Session;
use tokio_postgres::Error;

/// A transaction in the way of a fence.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocker {
    /// Its server process; `None` for a prepared transaction, which has none.
    pub pid: Option<i32>,
    /// Since it began.
    pub age: Duration,
    /// `active`, `idle in transaction` and so on, as `pg_stat_activity` has it; `prepared`.
    pub state: String,
    /// Its last statement, shortened; of a prepared transaction its name.
    pub query: String,
    /// What the client calls itself.
    pub application: String,
    /// Whose it is.
    pub user: String,
    /// Whether the server cleans up by itself; it yields to whoever waits for longer than `deadlock_timeout`.
    pub is_autovacuum: bool,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.age.as_secs_f64();
        match self.pid {
            Some(pid) => {
                write!(f, "pid {pid} of \"{}\" ({}, since {age:.1} s): {}", self.user, self.state, self.query)
            }
            None => write!(f, "prepared transaction \"{}\" of \"{}\" (since {age:.1} s)", self.query, self.user),
        }
    }
}

/// A query longer than this is cut.
const QUERY: &str = "
SELECT a.pid, extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8,
       coalesce(a.state, a.backend_type, ''), coalesce(left(a.query, 200), ''), coalesce(a.application_name, ''),
       coalesce(a.usename::text, ''), coalesce(a.backend_type, '') = 'autovacuum worker'
FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY (pg_catalog.pg_blocking_pids($1))
UNION ALL
SELECT NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, 'prepared', p.gid, '', p.owner::text, false
FROM pg_catalog.pg_prepared_xacts p
WHERE p.database = current_database() AND EXISTS (
    SELECT FROM pg_catalog.pg_locks own
    JOIN pg_catalog.pg_locks held ON held.virtualtransaction = own.virtualtransaction AND held.pid IS NULL
    JOIN pg_catalog.pg_locks waits ON waits.relation = held.relation AND waits.database = held.database
    WHERE own.locktype = 'transactionid' AND own.transactionid = p.transaction AND own.pid IS NULL
      AND held.granted AND waits.pid = $1 AND NOT waits.granted)";

/// Returns who is in the way of the server process `pid`.
pub(super) async fn blockers(session: &Session, pid: i32) -> Result<Vec<Blocker>, Error> {
    let rows = session.query(QUERY, &[&pid]).await?;
    let blocker = |row: &tokio_postgres::Row| Blocker {
        pid: row.get(0),
        age: Duration::from_secs_f64(row.get::<_, f64>(1).max(0.0)),
        state: row.get(2),
        query: row.get(3),
        application: row.get(4),
        user: row.get(5),
        is_autovacuum: row.get(6),
    };
    Ok(rows.iter().map(blocker).collect())
}
