//! Who would have to be waited for if a fence went up now.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};

use super::Blocker;
use super::members::members;
use super::problem::failed;

/// Whoever holds a lock that a fence's would wait for, on one of the tables. We ourselves are not asked about. Of other
/// roles' sessions a role without `pg_read_all_stats` sees neither since when nor what they do.
const QUERY: &str = "
WITH locked AS (
    SELECT DISTINCT l.pid, l.virtualtransaction FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest($1::text[], $2::text[]) AS wanted (schema, name)
      ON wanted.schema = n.nspname AND wanted.name = c.relname
    WHERE l.locktype = 'relation' AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()))
SELECT a.pid, coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start)), 0)::float8,
       coalesce(a.state, a.backend_type, ''), coalesce(left(a.query, 200), ''), coalesce(a.application_name, ''),
       coalesce(a.usename::text, ''), coalesce(a.backend_type, '') = 'autovacuum worker'
FROM pg_catalog.pg_stat_activity a
WHERE a.pid IN (SELECT locked.pid FROM locked) AND NOT starts_with(coalesce(a.application_name, ''), 'tidegate/')
UNION ALL
SELECT NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, 'prepared', p.gid, '', p.owner::text, false
FROM pg_catalog.pg_prepared_xacts p
JOIN pg_catalog.pg_locks own ON own.locktype = 'transactionid' AND own.transactionid = p.transaction
WHERE p.database = current_database() AND own.pid IS NULL
  AND own.virtualtransaction IN (SELECT locked.virtualtransaction FROM locked WHERE locked.pid IS NULL)";

/// Returns the transactions, prepared ones among them, that have written one of the tables, a partition or a child, and
/// have not ended. For PostgreSQL: elsewhere no fence waits for locks.
pub async fn writers(session: &Session, tables: &[TableName]) -> Result<Vec<Blocker>, Problem> {
    let (mut schemas, mut names) = (Vec::new(), Vec::new());
    for member in members(session, tables).await? {
        schemas.push(member.table.schema.to_string());
        names.push(member.table.name.to_string());
    }
    let rows = session.query(QUERY, &[&schemas, &names]).await.map_err(failed("see who is writing"))?;
    let writer = |row: &tokio_postgres::Row| Blocker {
        pid: row.get(0),
        age: Duration::from_secs_f64(row.get::<_, f64>(1).max(0.0)),
        state: row.get(2),
        query: row.get(3),
        application: row.get(4),
        user: row.get(5),
        is_autovacuum: row.get(6),
    };
    Ok(rows.iter().map(writer).collect())
}
