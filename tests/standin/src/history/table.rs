//! Tables with a history.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio_postgres::Client;

use crate::encode::Kind;
use crate::error::SqlError;

/// Quotes an identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One column of a table, and of its log, where it is called `c<number>`.
#[derive(Clone, Debug)]
pub struct Column {
    pub number: i16,
    pub name: String,
    pub kind: Kind,
    pub r#virtual: bool,
}

/// The columns of a table during a stretch of time.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In order of definition.
    pub columns: Vec<Column>,
    /// Places in `columns` of the primary key's columns, in key order.
    pub keys: Vec<usize>,
}

/// A table with a history.
#[derive(Clone, Debug)]
pub struct Tracked {
    pub relation: u32,
    pub schema: String,
    pub name: String,
    /// The columns of now.
    pub layout: Layout,
    /// Since when: rows without a log entry are at least as old.
    pub since: i64,
}

const FIND_SQL: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, t.columns::text, t.keys, t.since
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN standin.tracked t ON t.relid = c.oid";

impl Tracked {
    pub async fn named(client: &Client, schema: &str, table: &str) -> Result<Tracked, SqlError> {
        let sql = format!("{FIND_SQL} WHERE n.nspname = $1 AND c.relname = $2");
        let row = client
            .query_opt(&sql, &[&schema, &table])
            .await?
            .ok_or_else(|| SqlError::new("42P01", format!("relation \"{schema}.{table}\" does not exist")))?;
        let relation = row.get(0);
        Ok(Tracked {
            relation,
            schema: row.get(1),
            name: row.get(2),
            layout: Layout::read(client, relation, row.get(3), row.get(4)).await?,
            since: row.get(5),
        })
    }

    /// The table's log.
    pub fn log(&self) -> String {
        format!("standin.log_{}", self.relation)
    }

    /// The table's own name for SQL.
    pub fn path(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

impl Layout {
    /// Reads what the backing server wrote down: columns as JSON objects `{n, name, type, typmod}`, key as their
    /// numbers.
    pub async fn read(client: &Client, relation: u32, columns: &str, keys: Vec<i16>) -> Result<Layout, SqlError> {
        let sql = "SELECT objsubid::int2 FROM pg_catalog.pg_description
            WHERE objoid = $1 AND classoid = 'pg_catalog.pg_class'::regclass AND description ~ '^standin:.* virtual'";
        let virtuals: Vec<i16> = client.query(sql, &[&relation]).await?.iter().map(|row| row.get(0)).collect();
        let read: Vec<serde_json::Value> =
            serde_json::from_str(columns).map_err(|error| SqlError::uncoded(format!("stand-in: {error}")))?;
        let mut kinds: HashMap<u32, Kind> = HashMap::new();
        let mut found = Vec::new();
        for column in &read {
            let kind = column["type"].as_u64().and_then(|oid| u32::try_from(oid).ok()).unwrap_or_default();
            let kind = match kinds.entry(kind) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(Box::pin(Kind::of(client, kind)).await?).clone(),
            };
            let number = column["n"].as_i64().and_then(|number| i16::try_from(number).ok()).unwrap_or_default();
            found.push(Column {
                number,
                name: column["name"].as_str().unwrap_or_default().to_owned(),
                kind,
                r#virtual: virtuals.contains(&number),
            });
        }
        let place = |number: &i16| found.iter().position(|column| column.number == *number);
        let keys = keys.iter().filter_map(place).collect();
        Ok(Layout { columns: found, keys })
    }
}
