//! Reading a PostgreSQL database in an exported snapshot.
//!
//! Each statement runs behind a savepoint that is rolled back to afterwards: a comparison of many tables holds a lock
//! on one at a time, and never longer than it reads it.

use std::collections::HashMap;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};
use tokio_postgres::Error;

use super::rows::{Rows, Stream};
use super::{Selection, Side, SnapshotRef};
use crate::key::Key;
use crate::problem;

/// What a server says of all rows of a table together: their number and two sums of their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) rows: u64,
    pub(crate) sums: String,
}

const KEY_TYPES: &str = "
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, -1)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

/// A partitioned table has no file.
const FILES: &str = "
SELECT relfilenode = coalesce(pg_catalog.pg_relation_filenode(oid), 0::oid)
  FROM pg_catalog.pg_class WHERE oid = $1::text::regclass";

/// Begins a transaction that sees exactly the snapshot. The server ends the session soon after our process is gone,
/// even while it sums up a table and has nothing to send.
pub(super) async fn enter(session: &Session, snapshot: &str) -> Result<(), Problem> {
    if let Err(error) = session.batch_execute("SET client_connection_check_interval = '1s'").await {
        // Not on every operating system; one that goes on without it only lets others wait longer after a crash.
        tracing::debug!(error = %error, "the server cannot notice closed connections");
    }
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        escape_literal(snapshot)
    );
    session.batch_execute(&sql).await.map_err(problem::snapshot)
}

/// Exports a snapshot of now, which the session keeps.
pub(super) async fn export(session: &Session) -> Result<SnapshotRef, Problem> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session.batch_execute(begin).await.map_err(problem::snapshot)?;
    let row = session.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await.map_err(problem::snapshot)?;
    Ok(SnapshotRef::Postgres { snapshot_id: row.get(0) })
}

/// Locks a table for what is read of it next, and makes sure that its file is the one that the snapshot knows: a snapshot
/// sees nothing of what TRUNCATE took away, and a rewritten table does not promise to be what it was. Both need a lock
/// that ours keeps away until [`leave`].
async fn mark(session: &Session, table_name: &TableName) -> Result<(), Problem> {
    let failed = |error| problem::reading(table_name, error);
    let sql = format!("SAVEPOINT verify; LOCK TABLE ONLY {} IN ACCESS SHARE MODE", table(table_name));
    session.batch_execute(&sql).await.map_err(failed)?;
    // A table is looked up as it is now, its row in the catalog is the snapshot's.
    let files = session.query_opt(FILES, &[&table(table_name)]).await.map_err(failed)?;
    match files {
        Some(row) if row.get::<_, bool>(0) => Ok(()),
        _ => Err(problem::rewritten(table_name)),
    }
}

/// Gives back what the last statement locked.
pub(super) async fn leave(session: &Session) -> Result<(), Error> {
    session.batch_execute("ROLLBACK TO SAVEPOINT verify; RELEASE SAVEPOINT verify").await
}

pub(super) async fn read(side: &Side, session: Session, selection: &Selection) -> Result<Rows, Problem> {
    mark(&session, &selection.table).await?;
    copy(side, session, selection, "").await
}

pub(super) async fn read_keys(
    side: &Side,
    session: Session,
    selection: &Selection,
    keys: &[Key],
) -> Result<Rows, Problem> {
    mark(&session, &selection.table).await?;
    let types = key_types(&session, selection).await?;
    copy(side, session, selection, &condition(selection, &types, keys)).await
}

/// Starts reading, behind a savepoint that the end of the rows rolls back to.
async fn copy(side: &Side, session: Session, selection: &Selection, condition: &str) -> Result<Rows, Problem> {
    let columns = names(&selection.columns).join(", ");
    let sql = format!("COPY (SELECT {columns} FROM ONLY {}{condition}) TO STDOUT", table(&selection.table));
    let lines = session.copy_out(&sql).await.map_err(|error| problem::reading(&selection.table, error))?;
    Ok(Rows::new(side.clone(), session, selection.table.clone(), Stream::Copy(Box::pin(lines))))
}

/// Returns the types of the columns of the key. Their names are looked up rather than known from the map: the two sides
/// may differ in them.
async fn key_types(session: &Session, selection: &Selection) -> Result<Vec<String>, Problem> {
    let Selection { table, columns, key } = selection;
    let rows = session.query(KEY_TYPES, &[&&*table.schema, &&*table.name]).await;
    let rows = rows.map_err(|error| problem::reading(table, error))?;
    let types: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let find = |index: &usize| {
        let column = &columns[*index];
        types.get(column).cloned().ok_or_else(|| problem::changed(table, format!("column \"{column}\" is gone")))
    };
    key.iter().map(find).collect()
}

/// Returns the condition that only rows of these keys fulfil. COPY takes no parameters, so the values are in the text: an
/// array for each column, which costs the planner nothing, as a list of a thousand rows would.
fn condition(selection: &Selection, types: &[String], keys: &[Key]) -> String {
    let columns: Vec<String> =
        selection.key.iter().map(|index| escape_identifier(&selection.columns[*index])).collect();
    let mut arrays = vec![String::from("{"); types.len()];
    for key in keys {
        for (array, value) in arrays.iter_mut().zip(key.values()) {
            push_element(array, value);
        }
    }
    let unnested =
        |array: &String| format!("pg_catalog.unnest({}::text[])", escape_literal(&format!("{array}}}")).trim_start());
    let arrays: Vec<String> = arrays.iter().map(unnested).collect();
    let names: Vec<String> = (1..=types.len()).map(|number| format!("k{number}")).collect();
    let cast: Vec<String> = names.iter().zip(types).map(|(name, type_name)| format!("{name}::{type_name}")).collect();
    format!(
        " WHERE ({}) IN (SELECT {} FROM ROWS FROM ({}) AS keys ({}))",
        columns.join(", "),
        cast.join(", "),
        arrays.join(", "),
        names.join(", ")
    )
}

/// Appends an element to the text of an array.
fn push_element(array: &mut String, value: Option<&[u8]>) {
    if array.len() > 1 {
        array.push(',');
    }
    let Some(text) = value else { return array.push_str("NULL") };
    array.push('"');
    for character in String::from_utf8_lossy(text).chars() {
        if matches!(character, '"' | '\\') {
            array.push('\\');
        }
        array.push(character);
    }
    array.push('"');
}

/// Sums up a table at the server; `None` if the server cannot. What comes back equal from both servers is equal in
/// either mode, because the texts of all values are: the sums go over the texts as the server prints them, which do not
/// depend on the order of rows or on a collation. What comes back different proves nothing (another scale, another
/// encoding of the server, another major version): then rows decide. So the canonical form of values exists once, here
/// in the engine, and no server has to compute it.
pub(super) async fn checksum(session: &Session, selection: &Selection) -> Result<Option<Checksum>, Problem> {
    let failed = |error| problem::reading(&selection.table, error);
    mark(session, &selection.table).await?;
    let sum = match session.query_one(&checksum_sql(selection), &[]).await {
        Ok(row) => Some(Checksum { rows: row.get::<_, i64>(0).unsigned_abs(), sums: row.get(1) }),
        // Reading the rows will tell the same, or will do: a row may be too long for one text.
        Err(error) if error.as_db_error().is_some() && !session.is_closed() => {
            tracing::debug!(table = %selection.table, error = %error, "the server cannot sum up the table");
            None
        }
        Err(error) => return Err(failed(error)),
    };
    leave(session).await.map_err(failed)?;
    Ok(sum)
}

fn checksum_sql(selection: &Selection) -> String {
    let sum = |seed: u8| format!("pg_catalog.sum(pg_catalog.hashtextextended(r, {seed}))");
    format!(
        "SELECT pg_catalog.count(*), pg_catalog.concat_ws(' ', {}, {}) \
         FROM (SELECT ROW({})::text COLLATE \"C\" AS r FROM ONLY {}) AS rows",
        sum(1),
        sum(2),
        names(&selection.columns).join(", "),
        table(&selection.table)
    )
}

fn names(columns: &[String]) -> Vec<String> {
    columns.iter().map(|column| escape_identifier(column)).collect()
}

fn table(name: &TableName) -> String {
    format!("{}.{}", escape_identifier(&name.schema), escape_identifier(&name.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_arrays_cast_to_the_types_of_their_columns() {
        let selection = Selection {
            table: TableName::new("public", "t"),
            columns: vec!["v".to_owned(), "a\"b".to_owned(), "c".to_owned()],
            key: vec![1, 2],
        };
        let key = |a: &'static str, c: &'static str| [Some(a.as_bytes()), Some(c.as_bytes())].into_iter().collect();
        let sql = condition(&selection, &["bigint".to_owned(), "text".to_owned()], &[key("1", "o'x"), key("2", "\"")]);
        assert_eq!(
            sql,
            r#" WHERE ("a""b", "c") IN (SELECT k1::bigint, k2::text FROM ROWS FROM ("#.to_owned()
                + r#"pg_catalog.unnest('{"1","2"}'::text[]), pg_catalog.unnest(E'{"o''x","\\""}'::text[]))"#
                + " AS keys (k1, k2))"
        );
    }
}
