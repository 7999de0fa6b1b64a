//! What the state remembers of each table.

use tidegate_model::{CopyState, CopyTable, Problem, TableMap, TableName, TableRoute};
use tokio_postgres::{Client, Row};

use super::problem;
use crate::server_error::DIVISION_BY_ZERO;
use crate::state::{Lease, StateKey, displaced, failed, table_text};

/// A table as the catalogs know it, before the state is asked.
#[derive(Clone, Debug)]
pub struct PlannedTable {
    /// Which goes where.
    pub map: TableMap,
    /// About how many rows it has.
    pub rows_estimated: u64,
    /// About how many bytes it takes on disk, TOAST included.
    pub bytes_estimated: u64,
}

/// A row of `copy_table`, for `status`.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyRecord {
    /// The source table: `schema.name`, quoted where a dot or a quote would make it ambiguous.
    pub source_table: String,
    /// How far it is.
    pub state: CopyState,
    /// About how many rows it has.
    pub rows_estimated: u64,
    /// Rows written in the current copy.
    pub rows: u64,
    /// Bytes written in the current copy, as they travelled.
    pub bytes: u64,
    /// How often its copy was begun.
    pub copies: i32,
}

impl CopyRecord {
    /// Returns whether it is the record of this source table.
    pub fn is_of(&self, table: &TableName) -> bool {
        self.source_table == table_text(table)
    }
}

/// Enters the tables that the state does not know yet, and returns all of them as it knows them. A copied table keeps
/// the map with which it was copied. May be repeated.
pub async fn plan(client: &Client, lease: &Lease, tables: Vec<PlannedTable>) -> Result<Vec<CopyTable>, Problem> {
    let names: Vec<String> = tables.iter().map(|table| table_text(&table.map.source.name)).collect();
    let targets: Vec<String> = tables.iter().map(|table| table_text(&table.map.target)).collect();
    let rows: Vec<i64> = tables.iter().map(|table| count(table.rows_estimated)).collect();
    let sql = format!(
        "INSERT INTO {table} AS old (migration, stream, source_table, target_table, state, rows_estimated) \
         SELECT '{migration}', '{stream}', source_table, target_table, 'planned', rows_estimated \
           FROM unnest($1::text[], $2::text[], $3::bigint[]) AS new (source_table, target_table, rows_estimated) \
         ON CONFLICT (migration, stream, source_table) DO UPDATE \
            SET target_table = excluded.target_table, rows_estimated = excluded.rows_estimated \
          WHERE old.state <> 'copied'",
        table = lease.key.table("copy_table"),
        migration = lease.key.migration,
        stream = lease.key.stream,
    );
    begin(client, lease).await?;
    let written = client.execute(&sql, &[&names, &targets, &rows]).await;
    end(client, written.map(|_| ()), "plan the copy").await?;

    let records = read_records(client, &lease.key).await?;
    let mut planned = Vec::with_capacity(tables.len());
    for (table, name) in tables.into_iter().zip(names) {
        let PlannedTable { map, rows_estimated, bytes_estimated } = table;
        let record = records.iter().find(|record| record.source_table == name);
        let state = record.map(|record| record.state.clone()).ok_or_else(|| problem::not_planned(&map.source.name))?;
        let map = if let CopyState::Copied(route) = &state { route.map.clone() } else { map };
        planned.push(CopyTable { map, bytes_estimated, rows_estimated, state });
    }
    Ok(planned)
}

/// Reads how far the copy of each table is.
pub async fn read_records(client: &Client, key: &StateKey) -> Result<Vec<CopyRecord>, Problem> {
    let sql = format!(
        "SELECT source_table, state, route::text, rows_estimated, rows, bytes, copies FROM {} WHERE {} \
         ORDER BY source_table",
        key.table("copy_table"),
        key.condition()
    );
    let rows = client.query(&sql, &[]).await.map_err(failed("read the copy"))?;
    rows.iter().map(read_record).collect()
}

fn read_record(row: &Row) -> Result<CopyRecord, Problem> {
    let route: Option<&str> = row.get(2);
    let unreadable = |why: String| {
        let table: &str = row.get(0);
        problem::broken(&TableName::new("", table), why)
    };
    let state = match (row.get(1), route) {
        ("planned", _) => CopyState::Planned,
        ("copying", _) => CopyState::Copying,
        ("copied", Some(route)) => {
            let route: TableRoute = serde_json::from_str(route).map_err(|error| unreadable(error.to_string()))?;
            CopyState::Copied(route)
        }
        (other, _) => return Err(unreadable(format!("its state is \"{other}\""))),
    };
    let number = |index| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
    Ok(CopyRecord {
        source_table: row.get(0),
        state,
        rows_estimated: number(3),
        rows: number(4),
        bytes: number(5),
        copies: row.get(6),
    })
}

/// Takes a table as it is: nothing of it is read, and the stream applies to it from the route's point on. May be
/// repeated.
pub async fn mark_copied(client: &Client, lease: &Lease, route: &TableRoute) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE {} SET state = 'copied', route = $2::text::jsonb WHERE {} AND source_table = $1",
        lease.key.table("copy_table"),
        lease.key.condition()
    );
    let name = table_text(&route.map.source.name);
    begin(client, lease).await?;
    let written = client.execute(&sql, &[&name, &route_json(route)]).await;
    let known = matches!(written, Ok(1..));
    end(client, written.map(|_| ()), "take a table as copied").await?;
    if known { Ok(()) } else { Err(problem::not_planned(&route.map.source.name)) }
}

/// Makes a table be copied again at a new point. Its rows at the target are ours, so they will be removed. May be
/// repeated.
pub async fn recopy(client: &Client, lease: &Lease, table: &TableName) -> Result<(), Problem> {
    let name = table_text(table);
    let condition = format!("{} AND source_table = $1", lease.key.condition());
    // A table that was taken as it is (copies = 0) becomes ours by this command.
    let plan_again = format!(
        "UPDATE {} SET state = 'planned', route = NULL, rows = 0, bytes = 0, copies = greatest(copies, 1) \
         WHERE {condition}",
        lease.key.table("copy_table")
    );
    let forget_chunks = format!("DELETE FROM {} WHERE {condition}", lease.key.table("copy_chunk"));
    begin(client, lease).await?;
    let planned = client.execute(&plan_again, &[&name]).await;
    let known = matches!(planned, Ok(1..));
    let written = match planned {
        Ok(_) => client.execute(&forget_chunks, &[&name]).await.map(|_| ()),
        Err(error) => Err(error),
    };
    end(client, written, "plan a table again").await?;
    if known { Ok(()) } else { Err(problem::not_planned(table)) }
}

/// Makes every table of the stream be copied again. May be repeated.
pub async fn recopy_all(client: &Client, lease: &Lease) -> Result<(), Problem> {
    let condition = lease.key.condition();
    let sql = format!(
        "UPDATE {} SET state = 'planned', route = NULL, rows = 0, bytes = 0, \
         copies = CASE WHEN state = 'planned' THEN copies ELSE greatest(copies, 1) END WHERE {condition}; \
         DELETE FROM {} WHERE {condition}",
        lease.key.table("copy_table"),
        lease.key.table("copy_chunk"),
    );
    begin(client, lease).await?;
    let written = client.batch_execute(&sql).await;
    end(client, written, "plan all tables again").await
}

pub(super) fn route_json(route: &TableRoute) -> String {
    serde_json::to_string(route).expect("a route is plain data")
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn begin(client: &Client, lease: &Lease) -> Result<(), Problem> {
    let begun = client.batch_execute(&format!("BEGIN; {}", lease.guard_sql())).await;
    let Err(error) = begun else { return Ok(()) };
    let is_displaced = error.code().is_some_and(|state| state.code() == DIVISION_BY_ZERO);
    end(client, Err(error), "check the owner").await.map_err(|problem| match is_displaced {
        true => displaced(lease),
        false => problem,
    })
}

async fn end(client: &Client, result: Result<(), tokio_postgres::Error>, doing: &str) -> Result<(), Problem> {
    match result {
        Ok(()) => client.batch_execute("COMMIT").await.map_err(failed(doing)),
        Err(error) => {
            // Its own failure says nothing new: the connection is gone, and the transaction with it.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(failed(doing)(error))
        }
    }
}
