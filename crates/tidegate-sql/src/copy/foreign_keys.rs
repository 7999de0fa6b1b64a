//! Foreign keys of the target: tables are loaded at different points and in any order, so they cannot hold until the
//! stream has passed the last point.

use std::collections::BTreeSet;

use tidegate_model::{Problem, TableMap, TableName};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::objects::{self, Kind, Missing, Object};
use super::problem;
use super::session::Sessions;
use crate::quote;

/// Foreign keys of tables being loaded, and of tables of the stream that refer to one being loaded. One that a
/// partition has from its partitioned table is a matter of the latter ($3: also those).
const FOREIGN_KEYS: &str = "
WITH RECURSIVE
  stream AS (SELECT to_regclass(name) AS oid FROM unnest($1::text[]) AS name),
  loading AS (SELECT to_regclass(name) AS oid FROM unnest($2::text[]) AS name),
  found AS (
    SELECT c.oid, c.conparentid FROM pg_catalog.pg_constraint c
     WHERE c.contype = 'f' AND ($3 OR c.conparentid = 0)
       AND (c.conrelid IN (SELECT oid FROM loading)
            OR c.conrelid IN (SELECT oid FROM stream) AND c.confrelid IN (SELECT oid FROM loading))
    UNION
    SELECT p.oid, p.conparentid FROM found f JOIN pg_catalog.pg_constraint p ON p.oid = f.conparentid)
SELECT n.nspname::text, t.relname::text, c.conname::text, pg_get_constraintdef(c.oid)
  FROM found f
  JOIN pg_catalog.pg_constraint c ON c.oid = f.oid
  JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
 WHERE f.conparentid = 0
 ORDER BY 1, 2, 3";

/// What a recorded key is like now.
const STATE: &str = "
SELECT t.relkind = 'p', c.oid IS NOT NULL, coalesce(c.convalidated, false)
  FROM pg_catalog.pg_class t
  LEFT JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid AND c.contype = 'f' AND c.conname = $2
 WHERE t.oid = $1::text::regclass";

/// Takes foreign keys away, each in a transaction of its own with the record of it. Where our role may not, a session
/// in which they do nothing serves as well.
pub(super) async fn take_away(sessions: &Sessions, stream: &[TableMap], loading: &[TableMap]) -> Result<(), Problem> {
    let names = |maps: &[TableMap]| -> Vec<String> {
        maps.iter().map(|map| &map.target).collect::<BTreeSet<_>>().into_iter().map(quote::table).collect()
    };
    let session = sessions.take().await?;
    let is_replica = session.is_replica;
    let rows = session.query(FOREIGN_KEYS, &[&names(stream), &names(loading), &!is_replica]).await;
    let rows = rows.map_err(problem::target("list foreign keys"))?;
    sessions.give(session);
    for row in &rows {
        take_one_away(sessions, &object(row), is_replica).await?;
    }
    Ok(())
}

fn object(row: &Row) -> Object {
    let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
    let name: String = row.get(2);
    let definition = format!(
        "ALTER TABLE {} ADD CONSTRAINT {} {}",
        quote::table(&table),
        quote::identifier(&name),
        row.get::<_, String>(3)
    );
    Object { table, kind: Kind::ForeignKey, name, definition }
}

async fn take_one_away(sessions: &Sessions, object: &Object, is_replica: bool) -> Result<(), Problem> {
    let drop =
        format!("ALTER TABLE {} DROP CONSTRAINT {}", quote::table(&object.table), quote::identifier(&object.name));
    let transaction = sessions.begin().await?;
    objects::record_dropped(&transaction, sessions, object).await.map_err(problem::target("record a foreign key"))?;
    match transaction.batch_execute(&format!("SET LOCAL lock_timeout = '10s'; {drop}")).await {
        Ok(()) => transaction.commit().await,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && is_replica => {
            tracing::info!(table = %object.table, name = object.name, "foreign key stays, without effect on the load");
            Ok(())
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(problem::foreign_key_in_the_way(&object.table, &object.name, &drop))
        }
        Err(error) => Err(problem::target("take a foreign key away for the load")(error)),
    }
}

/// Brings foreign keys back: first not validated, so that no writer waits while rows are checked, then validated.
pub(super) async fn restore(sessions: &Sessions) -> Result<(), Problem> {
    for missing in objects::missing(sessions, Kind::ForeignKey, None).await? {
        if add(sessions, &missing).await? == Added::ToBeValidated {
            validate(sessions, &missing).await?;
        }
        let transaction = sessions.begin().await?;
        objects::record_restored(&transaction, sessions, &missing.table, Kind::ForeignKey, &missing.name).await?;
        transaction.commit().await?;
    }
    Ok(())
}

#[derive(PartialEq)]
enum Added {
    Whole,
    ToBeValidated,
}

async fn add(sessions: &Sessions, missing: &Missing) -> Result<Added, Problem> {
    let transaction = sessions.begin().await?;
    let row = transaction.query_opt(STATE, &[&objects::table_sql(missing), &missing.name]).await;
    let row = row.map_err(problem::target("look for a foreign key"))?;
    let (is_partitioned, exists, is_valid): (bool, bool, bool) =
        row.map_or((false, false, false), |row| (row.get(0), row.get(1), row.get(2)));
    // Of a partitioned table it cannot be added without being validated (before PostgreSQL 18). One that was not valid
    // before the load stays so.
    let at_once = is_partitioned || missing.definition.ends_with(" NOT VALID");
    if !exists {
        let suffix = if at_once { "" } else { " NOT VALID" };
        let sql = format!("SET LOCAL lock_timeout = '10s'; {}{suffix}", missing.definition);
        let added = transaction.batch_execute(&sql).await;
        added.map_err(|error| problem::not_restored(&missing.table, &missing.definition, error))?;
    }
    transaction.commit().await?;
    Ok(if is_valid || at_once { Added::Whole } else { Added::ToBeValidated })
}

/// Not under the lease: it would hold up every batch of the stream until the last row is checked, and validating what
/// is there does no harm whoever does it.
async fn validate(sessions: &Sessions, missing: &Missing) -> Result<(), Problem> {
    tracing::info!(table = missing.table, name = missing.name, "validating a foreign key");
    let session = sessions.take().await?;
    let sql =
        format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", objects::table_sql(missing), quote::identifier(&missing.name));
    let validated = session.batch_execute(&sql).await;
    validated.map_err(|error| problem::foreign_key_broken(&missing.table, &missing.name, error))?;
    sessions.give(session);
    Ok(())
}
