//! Which tables and columns there are to compare.

use std::fmt;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::canonical::Rendering;
use crate::database::{Database, Host};

/// A table of the source.
#[derive(Debug)]
pub(super) struct Table {
    schema: String,
    name: String,
    pub(super) columns: Vec<Column>,
}

/// A column of it.
#[derive(Debug)]
pub(super) struct Column {
    name: String,
    pub(super) rendering: Rendering,
}

impl Table {
    /// Returns the select list.
    pub(super) fn selected(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Ordinary tables with their columns; one row for each column, a table without columns has one without a name.
const POSTGRES: &str = "
    SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, NULL)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'
       AND n.nspname NOT IN ('information_schema', 'tidegate')
     ORDER BY n.nspname, c.relname, a.attname";

/// The same without hidden columns.
const COCKROACH: &str = "
    SELECT c.table_schema, c.table_name, c.column_name, c.data_type
      FROM information_schema.columns c
      JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
     WHERE t.table_type = 'BASE TABLE' AND c.is_hidden = 'NO'
       AND c.table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension', 'tidegate')
     ORDER BY c.table_schema, c.table_name, c.column_name";

/// Lists the tables of a schema, or of all but system and state schemas.
pub(super) async fn tables(client: &Client, database: &Database, schema: Option<&str>) -> Vec<Table> {
    let query = match database.host {
        Host::Postgres(_) => POSTGRES,
        Host::Cockroach(_) => COCKROACH,
    };
    let answer = client.simple_query(query).await.unwrap_or_else(|error| panic!("the catalog cannot be read: {error}"));
    let mut tables: Vec<Table> = Vec::new();
    for message in answer {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let text = |index: usize| row.get(index).unwrap_or_default().to_owned();
        let (in_schema, name, column) = (text(0), text(1), text(2));
        if schema.is_some_and(|schema| schema != in_schema) {
            continue;
        }
        if tables.last().is_none_or(|last| (&last.schema, &last.name) != (&in_schema, &name)) {
            tables.push(Table { schema: in_schema, name, columns: Vec::new() });
        }
        if !column.is_empty() {
            let column = Column { name: column, rendering: Rendering::of(&text(3)) };
            tables.last_mut().expect("one was just pushed").columns.push(column);
        }
    }
    tables
}
