//! The begin and the end of a table's load.

use tidegate_model::{Load, Problem, TableMap, TableName, TableRoute};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::records::route_json;
use super::session::{Sessions, Transaction};
use super::{cockroach, format, problem};
use crate::dialect::Dialect;
use crate::quote;
use crate::state::{table_text, under_lease};

/// Makes a table ready for its first chunk.
pub(super) async fn begin(sessions: &Sessions, table: &TableMap) -> Result<Load, Problem> {
    match sessions.dialect().await? {
        Dialect::Postgres => begin_in_transaction(sessions, table).await,
        Dialect::Cockroach => cockroach::begin(sessions, table).await,
    }
}

/// The check that it is empty (or ours to empty) and the record that it is being copied are one transaction.
async fn begin_in_transaction(sessions: &Sessions, table: &TableMap) -> Result<Load, Problem> {
    let key = &sessions.lease().key;
    let source = &table.source.name;
    let name = table_text(source);
    let condition = format!("{} AND source_table = $1", key.condition());
    let failed = |doing| problem::target(doing);

    let transaction = sessions.begin().await?;
    // Waits for every chunk transaction of an earlier copy that may still be running, and stops those yet to come.
    let sql = format!("SELECT state, copies FROM {} WHERE {condition} FOR UPDATE", key.table("copy_table"));
    let row = transaction.query_opt(&sql, &[&name]).await.map_err(failed("read the record of a table"))?;
    let row = row.ok_or_else(|| problem::not_planned(source))?;
    let (state, copies): (&str, i32) = (row.get(0), row.get(1));
    if state == "copied" {
        return Err(problem::broken(source, "it is copied and was to be copied again"));
    }
    let format = format::decide(&transaction, table).await?;
    if copies == 0 {
        refuse_rows(&transaction, &table.target).await?;
    } else {
        empty(&transaction, &table.target).await?;
    }
    let sql = format!("DELETE FROM {} WHERE {condition}", key.table("copy_chunk"));
    transaction.execute(&sql, &[&name]).await.map_err(failed("forget old chunks"))?;
    let sql = format!(
        "UPDATE {} SET state = 'copying', copies = copies + 1, format = $2, route = NULL \
         WHERE {condition} RETURNING copies",
        key.table("copy_table")
    );
    let row = transaction.query_one(&sql, &[&name, &format.as_str()]).await.map_err(failed("begin a table"))?;
    let load = Load { format, copy: row.get(0) };
    transaction.commit().await?;
    Ok(load)
}

async fn refuse_rows(transaction: &Transaction, target: &TableName) -> Result<(), Problem> {
    let sql = format!("SELECT EXISTS (SELECT FROM ONLY {})", quote::table(target));
    let row = transaction.query_one(&sql, &[]).await.map_err(problem::target("look for rows in a table"))?;
    if row.get(0) { Err(problem::not_empty(target)) } else { Ok(()) }
}

/// Removes rows that earlier copies wrote. TRUNCATE is refused where foreign keys refer to the table, or without the
/// right.
async fn empty(transaction: &Transaction, target: &TableName) -> Result<(), Problem> {
    let table = quote::table(target);
    let truncate =
        format!("SAVEPOINT empty; SET LOCAL lock_timeout = '5s'; TRUNCATE ONLY {table}; SET LOCAL lock_timeout = 0");
    let Err(error) = transaction.batch_execute(&truncate).await else { return Ok(()) };
    let other_way = [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INSUFFICIENT_PRIVILEGE, SqlState::LOCK_NOT_AVAILABLE];
    if !error.code().is_some_and(|state| other_way.contains(state)) {
        return Err(problem::target("empty a table")(error));
    }
    let failed = |error: Error| problem::target("empty a table")(error);
    transaction.batch_execute("ROLLBACK TO SAVEPOINT empty").await.map_err(failed)?;
    if !transaction.is_replica {
        refuse_actions(transaction, target).await?;
    }
    transaction.batch_execute(&format!("DELETE FROM ONLY {table}")).await.map_err(failed)
}

/// A DELETE would remove or change rows of tables that refer to this one.
async fn refuse_actions(transaction: &Transaction, target: &TableName) -> Result<(), Problem> {
    let sql = "SELECT conname::text FROM pg_catalog.pg_constraint \
               WHERE contype = 'f' AND confrelid = $1::text::regclass ORDER BY 1 LIMIT 1";
    let row = transaction.query_opt(sql, &[&quote::table(target)]).await;
    match row.map_err(problem::target("look for foreign keys"))? {
        Some(row) => Err(problem::cannot_be_emptied(target, row.get(0), Dialect::Postgres)),
        None => Ok(()),
    }
}

/// Remembers that a table is complete. Whether every chunk is there is asserted by the target itself.
pub(super) async fn finish(sessions: &Sessions, route: &TableRoute, load: &Load, chunks: u64) -> Result<(), Problem> {
    let key = &sessions.lease().key;
    let source = &route.map.source.name;
    let name = table_text(source);
    let sql = format!(
        "UPDATE {table} SET state = 'copied', route = $2::text::jsonb \
         WHERE {key} AND source_table = $1 AND copies = $3::INT4 AND state IN ('copying', 'copied') \
           AND $4::INT8 = (SELECT count(*) FROM {chunk} WHERE {key} AND source_table = $1 AND whole)",
        table = key.table("copy_table"),
        chunk = key.table("copy_chunk"),
        key = key.condition(),
    );
    let written = i64::try_from(chunks).expect("a table has fewer chunks than pages");
    let route_text = route_json(route);
    let failed = |error: Error| problem::target("finish a table")(error);
    let session = sessions.take().await?;
    let updated = under_lease(&session, sessions.lease(), "", failed, || async {
        session.execute(&sql, &[&name, &route_text, &load.copy, &written]).await.map_err(failed)
    });
    if updated.await? != 1 {
        return Err(problem::broken(source, format!("copy {} does not have its {chunks} chunks", load.copy)));
    }
    sessions.give(session);
    Ok(())
}
