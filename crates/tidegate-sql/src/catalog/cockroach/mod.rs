//! Reading the catalog of CockroachDB, with few and plain queries: its `pg_catalog` is made up at each of them.

mod advice;
mod columns;
mod definition;
mod foreign;
mod type_name;

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::{ColumnName, Problem, TableName};
use tokio_postgres::{Error, Row};

pub(crate) use advice::type_text;
pub(crate) use foreign::{ForeignKeyRow, foreign_keys};

use super::{TargetKind, TargetTable, ValueType};
use crate::{retry, server_error};

/// A name may stand for a table, a view or a sequence.
const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, has_schema_privilege(n.oid, 'USAGE'),
       has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
       has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE')
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY ($1::text[]) AND c.relname = ANY ($2::text[]) AND c.relkind IN ('r', 'v', 'm')";

/// The privileges that are asked for, in the order of the columns of [`TABLES`].
const PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Unique indexes over all rows, the primary key first. What lies behind the key columns is only stored with them.
const UNIQUE_KEYS: &str = "
SELECT indrelid, indkey::text, indnkeyatts::INT8
  FROM pg_catalog.pg_index
 WHERE indisunique AND indpred IS NULL AND indrelid IN ({oids})
 ORDER BY indrelid, indisprimary DESC, indexrelid";

/// Reads what the target has under these names. Names that it does not have are left out.
pub(super) async fn read_tables(
    session: &Session,
    names: &[TableName],
) -> Result<HashMap<TableName, TargetTable>, Problem> {
    retry::repeatable(|| async {
        read(session, names).await.map_err(|error| {
            let next = "see the reason: the catalog is readable for every role";
            server_error::problem("CK050", "the tables of the target cannot be read", error, next)
        })
    })
    .await
}

/// Returns what the values of types are, by the OIDs of the types.
pub(super) async fn value_types(session: &Session, oids: &[u32]) -> Result<HashMap<u32, ValueType>, Problem> {
    retry::repeatable(|| async {
        type_name::value_types(session, oids).await.map_err(|error| {
            server_error::problem("CK050", "the types of a database cannot be read", error, "see the reason")
        })
    })
    .await
}

async fn read(session: &Session, names: &[TableName]) -> Result<HashMap<TableName, TargetTable>, Error> {
    let schemas: Vec<&str> = names.iter().map(|name| &*name.schema).collect();
    let plain: Vec<&str> = names.iter().map(|name| &*name.name).collect();
    let rows = session.query(TABLES, &[&schemas, &plain]).await?;
    let tables = rows.iter().map(|row| (row.get::<_, u32>(0), table(row)));
    let mut tables: HashMap<u32, TargetTable> = tables.filter(|(_, table)| names.contains(&table.name)).collect();
    if tables.is_empty() {
        return Ok(HashMap::new());
    }
    let numbers = columns::read(session, &mut tables).await?;
    for row in session.query(&with_oids(UNIQUE_KEYS, tables.keys()), &[]).await? {
        let Some(table) = tables.get_mut(&row.get::<_, u32>(0)) else { continue };
        let key_columns = usize::try_from(row.get::<_, i64>(2)).unwrap_or(usize::MAX);
        let places: Vec<i16> = numbers_in(row.get(1)).into_iter().take(key_columns).collect();
        let names = places.iter().map(|place| numbers.get(&(table.oid, *place)).cloned());
        // One over an expression has a place without a column.
        if let Some(key) = names.collect::<Option<Vec<ColumnName>>>().filter(|key| !key.is_empty()) {
            table.unique_keys.push(key);
        }
    }
    let by_name: HashMap<TableName, u32> = tables.iter().map(|(oid, table)| (table.name.clone(), *oid)).collect();
    for ForeignKeyRow { key, .. } in foreign::read(session).await? {
        let ends = [&key.table, &key.references];
        let both = ends[0] == ends[1];
        for end in ends.into_iter().take(if both { 1 } else { 2 }) {
            if let Some(table) = by_name.get(end).and_then(|oid| tables.get_mut(oid)) {
                table.foreign_keys.push(key.clone());
            }
        }
    }
    definition::read(session, &mut tables).await?;
    Ok(tables.into_values().map(|table| (table.name.clone(), table)).collect())
}

fn table(row: &Row) -> TargetTable {
    let missing = PRIVILEGES.iter().enumerate().filter(|(index, _)| !row.get::<_, bool>(5 + index));
    TargetTable {
        oid: row.get(0),
        name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
        kind: if row.get::<_, &str>(3) == "r" { TargetKind::Table } else { TargetKind::Other },
        columns: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
        row_security: false,
        missing_privileges: missing.map(|(_, name)| (*name).to_owned()).collect(),
        schema_usage: row.get(4),
        families: 1,
        schema_locked: false,
        triggers_unknown: None,
    }
}

/// Puts numbers in the place of `{oids}`: few enough to stand in the text, and then an index of the catalog is used.
fn with_oids<'a>(sql: &str, oids: impl Iterator<Item = &'a u32>) -> String {
    let oids: Vec<String> = oids.map(u32::to_string).collect();
    sql.replace("{oids}", &oids.join(", "))
}

/// Reads the numbers of an array or vector, whichever way it is written: `1 2` or `{1,2}`.
fn numbers_in(text: &str) -> Vec<i16> {
    let is_part = |c: char| c.is_ascii_digit() || c == '-';
    text.split(|c| !is_part(c)).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_however_they_are_written() {
        assert_eq!(numbers_in("1 2"), [1, 2]);
        assert_eq!(numbers_in("{1,-2,30}"), [1, -2, 30]);
        assert_eq!(numbers_in(""), [] as [i16; 0]);
    }
}
