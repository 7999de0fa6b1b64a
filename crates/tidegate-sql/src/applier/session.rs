//! What a session needs before it writes, in both dialects.

use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::ApplierConfig;
use super::mark::{self, Mark};
use crate::dialect::Dialect;
use crate::fence;
use crate::plan::SessionRights;
use crate::server_error;
use crate::state::Lease;

/// Settings of a session at PostgreSQL.
///
/// - Read only by default, and each transaction says READ WRITE: were a BEGIN ever refused (cancelled by an operator)
///   the requests already on their way behind it would otherwise take effect one by one.
/// - Rows are found by `unnest` joined with the table's key. What the planner may not choose are plans that read all
///   of the table for each batch. Where it was told of a tiny table it finds a way to do so even then; plans are made
///   anew for that.
/// - The generic plan is as good as any, because the estimate for `unnest` of a parameter says nothing, and planning
///   anew each time costs more than a small batch.
/// - Notices say nothing new: a ROLLBACK that makes sure of the end of a transaction warns where there is none, and
///   what functions of the target raise may hold values of rows, which do not belong into the log.
const POSTGRES: &str = "
SET default_transaction_read_only = on;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_seqscan = off;
SET plan_cache_mode = force_generic_plan;
SET jit = off;
SET client_min_messages = error;
";

/// Settings of a session at CockroachDB that every release has. Read only by default for the same reason as above.
const COCKROACH: &str = "SET default_transaction_read_only = on";

/// Settings that not every release of CockroachDB has. One that it does not know means that it does not do what the
/// setting turns off.
///
/// - A TRUNCATE stays inside its transaction, instead of committing half of it.
/// - An operator's `sql_safe_updates` is meant for people.
const COCKROACH_WHERE_KNOWN: [&str; 2] = ["SET autocommit_before_ddl = false", "SET sql_safe_updates = false"];

/// A session that is ready to write.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) rights: SessionRights,
    /// `None` where another process cannot end it.
    pub(super) backend: Option<Backend>,
    /// What goes behind each BEGIN; empty for nothing.
    pub(super) first: String,
}

/// A server process of PostgreSQL, named so that another one with its pid is not taken for it.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pid: i32,
    started: String,
}

/// Sets a session up. `earlier` is the backend of the session it replaces: it may still be busy with what it received,
/// and is ended so that it holds no locks. (CockroachDB lets go of the locks of a lost session by itself, in seconds.)
pub(crate) async fn set_up(
    session: &Session,
    config: &ApplierConfig,
    earlier: Option<&Backend>,
) -> Result<Ready, Problem> {
    let failed = |error| {
        let next = "see the reason; what the role needs is listed by tidegate check";
        server_error::problem("AP052", "the session that writes to the target could not be set up", error, next)
    };
    if session.is_cockroach() {
        session.batch_execute(COCKROACH).await.map_err(failed)?;
        if let Some(hide) = mark::hide_from_feeds(session.server()) {
            session.batch_execute(hide).await.map_err(failed)?;
        }
        for setting in COCKROACH_WHERE_KNOWN {
            set_where_known(session, setting).await.map_err(failed)?;
        }
        let rights = SessionRights { foreign_keys_enforced: true };
        return Ok(Ready { rights, backend: None, first: String::new() });
    }
    // Before it is read only: the secret may have to be made.
    fence::let_through(session, &config.lease.key.schema, &config.lease.key.migration).await?;
    let (rights, backend) = set_up_postgres(session, earlier).await.map_err(failed)?;
    let mark = if config.mark { Some(Mark::set_up(session, &config.lease).await?) } else { None };
    let first = mark.as_ref().and_then(Mark::first_statement).map_or(String::new(), |first| format!("; {first}"));
    Ok(Ready { rights, backend: Some(backend), first })
}

async fn set_up_postgres(session: &Session, earlier: Option<&Backend>) -> Result<(SessionRights, Backend), Error> {
    if let Some(earlier) = earlier {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid = $1 AND backend_start::text = $2";
        session.query(sql, &[&earlier.pid, &earlier.started]).await?;
    }
    session.batch_execute(POSTGRES).await?;
    let rights = SessionRights { foreign_keys_enforced: !becomes_replica(session).await? };
    let sql = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let row = session.query_one(sql, &[]).await?;
    Ok((rights, Backend { pid: row.get(0), started: row.get(1) }))
}

async fn set_where_known(client: &Client, setting: &str) -> Result<(), Error> {
    match client.batch_execute(setting).await {
        // 42704: unrecognized configuration parameter.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
        done => done,
    }
}

/// Turns off foreign keys, rules and ordinary triggers for the session, where that is allowed.
async fn becomes_replica(client: &Client) -> Result<bool, Error> {
    match client.batch_execute("SET session_replication_role = replica").await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The step of the checkpoint, in a form that raises where it matches nothing: an UPDATE of no row is no error, and a
/// batch would commit without the one before it.
pub(super) fn advance_sql(lease: &Lease, dialect: Dialect) -> String {
    let (when, check) = match dialect {
        Dialect::Postgres => ("timestamptz 'epoch' + $2::bigint * interval '1 microsecond'", "1 / count(*)"),
        Dialect::Cockroach => (
            "'1970-01-01 00:00:00+00:00'::TIMESTAMPTZ + $2::INT8 * '1 microsecond'::INTERVAL",
            "1 / CASE WHEN count(*) = 1 THEN 1 ELSE 0 END",
        ),
    };
    format!(
        "WITH moved AS (UPDATE {} SET position = $1, updated_at = clock_timestamp(), \
         committed_at = coalesce({when}, committed_at) \
         WHERE {} AND shard = 0 AND epoch = {} AND position = $3 RETURNING 1) SELECT {check} FROM moved",
        lease.key.table("checkpoint"),
        lease.key.condition(),
        lease.epoch
    )
}
