//! The transactions that the creation of a slot waits for.

use std::fmt;
use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::Problem;

use crate::problem::Asked;

/// Characters of a query that are shown.
const QUERY_CHARS: i32 = 80;

/// What the creation of a slot waits for: every transaction of the cluster that wrote and was open when it began.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// How long the creation has taken so far.
    pub since: Duration,
    /// The transactions, oldest first.
    pub transactions: Vec<WaitedFor>,
}

/// A transaction that holds up the creation of a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitedFor {
    /// Who holds it open.
    pub holder: Holder,
    /// Its database.
    pub database: String,
    /// How long it has been open; `None` if our role may not see that.
    pub age: Option<Duration>,
    /// Whether the server waits for this one at the moment.
    pub next: bool,
}

/// Who holds a transaction open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A session.
    Session {
        /// Its server process.
        pid: i32,
        /// Its role.
        user: String,
        /// Its `state`, such as `idle in transaction`.
        state: String,
        /// The beginning of its present or last query.
        query: String,
    },
    /// A prepared transaction: it waits for COMMIT PREPARED or ROLLBACK PREPARED.
    Prepared {
        /// Its identifier.
        gid: String,
        /// Its owner.
        owner: String,
    },
}

impl fmt::Display for WaitedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.age.map_or("of unknown age".to_owned(), |age| format!("open for {} s", age.as_secs()));
        match &self.holder {
            Holder::Session { pid, user, state, query } => {
                write!(f, "process {pid} of \"{user}\" in \"{}\", {age}, {state}: {query}", self.database)
            }
            Holder::Prepared { gid, owner } => {
                write!(f, "prepared transaction '{gid}' of \"{owner}\" in \"{}\", {age}", self.database)
            }
        }
    }
}

/// Lists what the walsender `pid`, which has been making a slot for `since`, waits for. Transactions that began later
/// are listed only when their turn has come: the server takes a second look while it works.
pub(super) async fn look(session: &Session, pid: i32, since: Duration) -> Result<Waiting, Problem> {
    let asked = Asked::new("listing the transactions that the slot waits for");
    let sql = "
        SELECT a.pid, a.datname::text, coalesce(a.usename::text, ''), coalesce(a.state, 'unknown state'),
               left(regexp_replace(coalesce(a.query, ''), '\\s+', ' ', 'g'), $3),
               extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age,
               a.pid = ANY (pg_blocking_pids($1)), NULL::text
          FROM pg_stat_activity a
         WHERE a.backend_xid IS NOT NULL AND a.pid <> $1
           AND (a.xact_start IS NULL OR a.xact_start <= clock_timestamp() - make_interval(secs => $2)
                OR a.pid = ANY (pg_blocking_pids($1)))
        UNION ALL
        SELECT 0, p.database::text, p.owner::text, '', '',
               extract(epoch FROM clock_timestamp() - p.prepared)::float8,
               0 = ANY (pg_blocking_pids($1)), p.gid
          FROM pg_prepared_xacts p
         ORDER BY age DESC NULLS FIRST";
    let rows =
        session.query(sql, &[&pid, &since.as_secs_f64(), &QUERY_CHARS]).await.map_err(|error| asked.sql(error))?;
    let transactions = rows
        .iter()
        .map(|row| {
            let holder = match row.get::<_, Option<String>>(7) {
                Some(gid) => Holder::Prepared { gid, owner: row.get(2) },
                None => Holder::Session { pid: row.get(0), user: row.get(2), state: row.get(3), query: row.get(4) },
            };
            WaitedFor {
                holder,
                database: row.get::<_, Option<String>>(1).unwrap_or_default(),
                age: row.get::<_, Option<f64>>(5).map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
                next: row.get(6),
            }
        })
        .collect();
    Ok(Waiting { since, transactions })
}
