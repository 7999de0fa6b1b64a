//! Indexes and keys around the load: building them once costs less than keeping them up to date for every row.

use tidegate_model::{Problem, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::objects::{self, Kind, Missing, Object};
use super::problem;
use super::session::{Sessions, Transaction};
use crate::quote;

/// What can be brought back exactly from its definition. Left in place: indexes of partitioned tables, those in a
/// tablespace of their own, invalid ones, those with a mark (CLUSTER, REPLICA IDENTITY) or statistics targets,
/// exclusion constraints, and everything of a table that our role does not own.
const INDEXES: &str = "
SELECT ic.relname::text, con.conname::text, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(con.oid)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  LEFT JOIN pg_catalog.pg_constraint con
    ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('p', 'u', 'x')
 WHERE i.indrelid = $1::text::regclass
   AND i.indisvalid AND NOT i.indisclustered AND NOT i.indisreplident
   AND ic.reltablespace = 0 AND NOT ic.relispartition
   AND (con.oid IS NULL OR con.contype <> 'x' AND con.conparentid = 0)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget > 0)
   AND pg_has_role(t.relowner, 'USAGE')
 ORDER BY con.conname NULLS FIRST, ic.relname";

/// Takes the indexes and keys of a table away, each in a transaction of its own with the record of it. One that
/// something else depends on stays.
pub(super) async fn take_away(sessions: &Sessions, table: &TableName) -> Result<(), Problem> {
    let session = sessions.take().await?;
    let rows = session.query(INDEXES, &[&quote::table(table)]).await.map_err(problem::target("list indexes"))?;
    sessions.give(session);
    for row in rows {
        let (index, constraint): (String, Option<String>) = (row.get(0), row.get(1));
        let object = match constraint {
            None => Object { table: table.clone(), kind: Kind::Index, name: index, definition: row.get(2) },
            Some(name) => {
                let definition = format!(
                    "ALTER TABLE ONLY {} ADD CONSTRAINT {} {}",
                    quote::table(table),
                    quote::identifier(&name),
                    row.get::<_, String>(3)
                );
                Object { table: table.clone(), kind: Kind::Key, name, definition }
            }
        };
        let transaction = sessions.begin().await?;
        match drop_recorded(&transaction, sessions, &object).await {
            Ok(()) => transaction.commit().await?,
            Err(error) if stays(&error) => {
                tracing::info!(table = %table, index = object.name, error = %error, "index stays during the load");
            }
            Err(error) => return Err(problem::target("take an index away for the load")(error)),
        }
    }
    Ok(())
}

async fn drop_recorded(transaction: &Transaction, sessions: &Sessions, object: &Object) -> Result<(), Error> {
    objects::record_dropped(transaction, sessions, object).await?;
    let name = quote::identifier(&object.name);
    let drop = match object.kind {
        Kind::Index => format!("DROP INDEX {}.{name}", quote::identifier(&object.table.schema)),
        Kind::Key | Kind::ForeignKey => {
            format!("ALTER TABLE ONLY {} DROP CONSTRAINT {name}", quote::table(&object.table))
        }
    };
    transaction.batch_execute(&format!("SET LOCAL lock_timeout = '5s'; {drop}")).await
}

/// Something depends on it, someone is reading the table, or the right is missing: the load only takes longer.
fn stays(error: &Error) -> bool {
    let reasons = [
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_OBJECT,
    ];
    error.code().is_some_and(|state| reasons.contains(state))
}

/// Brings back what the records say is missing. May be repeated.
pub(super) async fn restore(sessions: &Sessions, table: &TableName) -> Result<(), Problem> {
    let mut restored = false;
    for kind in [Kind::Key, Kind::Index] {
        for missing in objects::missing(sessions, kind, Some(table)).await? {
            restore_one(sessions, table, kind, &missing).await?;
            restored = true;
        }
    }
    if restored {
        analyze(sessions, table).await?;
    }
    Ok(())
}

async fn restore_one(sessions: &Sessions, table: &TableName, kind: Kind, missing: &Missing) -> Result<(), Problem> {
    tracing::info!(table = %table, index = missing.name, "building an index");
    let transaction = sessions.begin().await?;
    if !exists(&transaction, table, kind, &missing.name).await? {
        let made = transaction.batch_execute(&missing.definition).await;
        made.map_err(|error| problem::not_restored(&missing.table, &missing.definition, error))?;
    }
    objects::record_restored(&transaction, sessions, &missing.table, kind, &missing.name).await?;
    transaction.commit().await
}

/// Someone may have brought it back already.
async fn exists(transaction: &Transaction, table: &TableName, kind: Kind, name: &str) -> Result<bool, Problem> {
    let sql = match kind {
        Kind::Index => {
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = $1::text::regclass AND c.relname = $2)"
        }
        Kind::Key | Kind::ForeignKey => {
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1::text::regclass AND conname = $2)"
        }
    };
    let row = transaction.query_one(sql, &[&quote::table(table), &name]).await;
    Ok(row.map_err(problem::target("look for an index"))?.get(0))
}

/// The stream begins at once and would be planned for an empty table. Without the right the server only warns.
async fn analyze(sessions: &Sessions, table: &TableName) -> Result<(), Problem> {
    let session = sessions.take().await?;
    let analyzed = session.batch_execute(&format!("ANALYZE {}", quote::table(table))).await;
    analyzed.map_err(problem::target("analyze a table"))?;
    sessions.give(session);
    Ok(())
}
