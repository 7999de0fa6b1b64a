//! What the state remembers of each table.

use tidegate_connect::Session;
use tidegate_model::{CopyState, CopyTable, Problem, TableMap, TableName, TableRoute};
use tokio_postgres::{Client, Error, Row};

use super::problem;
use crate::retry;
use crate::state::{Lease, StateKey, failed, table_text, under_lease};

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
pub async fn plan(session: &Session, lease: &Lease, tables: Vec<PlannedTable>) -> Result<Vec<CopyTable>, Problem> {
    let names: Vec<String> = tables.iter().map(|table| table_text(&table.map.source.name)).collect();
    let targets: Vec<String> = tables.iter().map(|table| table_text(&table.map.target)).collect();
    let rows: Vec<i64> = tables.iter().map(|table| count(table.rows_estimated)).collect();
    let sql = format!(
        "INSERT INTO {table} AS old (migration, stream, source_table, target_table, state, rows_estimated) \
         SELECT '{migration}', '{stream}', source_table, target_table, 'planned', rows_estimated \
           FROM unnest($1::text[], $2::text[], $3::INT8[]) AS new (source_table, target_table, rows_estimated) \
         ON CONFLICT (migration, stream, source_table) DO UPDATE \
            SET target_table = excluded.target_table, rows_estimated = excluded.rows_estimated \
          WHERE old.state <> 'copied'",
        table = lease.key.table("copy_table"),
        migration = lease.key.migration,
        stream = lease.key.stream,
    );
    let failed = |error: Error| failed("plan the copy")(error);
    under_lease(session, lease, "", failed, || async {
        session.execute(&sql, &[&names, &targets, &rows]).await.map_err(failed)
    })
    .await?;

    let records = read_records(session, &lease.key).await?;
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
        "SELECT t.source_table, t.state, t.route::text, t.rows_estimated, coalesce(c.rows, 0)::INT8, \
                coalesce(c.bytes, 0)::INT8, t.copies \
           FROM {copy_table} AS t LEFT JOIN \
                (SELECT source_table, sum(rows) AS rows, sum(bytes) AS bytes FROM {copy_chunk} WHERE {condition} \
                  GROUP BY source_table) AS c ON c.source_table = t.source_table \
          WHERE {condition} ORDER BY t.source_table",
        copy_table = key.table("copy_table"),
        copy_chunk = key.table("copy_chunk"),
        condition = key.condition()
    );
    let rows = retry::repeatable(|| async { client.query(&sql, &[]).await.map_err(failed("read the copy")) });
    rows.await?.iter().map(read_record).collect()
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
pub async fn mark_copied(session: &Session, lease: &Lease, route: &TableRoute) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE {} SET state = 'copied', route = $2::text::jsonb WHERE {} AND source_table = $1",
        lease.key.table("copy_table"),
        lease.key.condition()
    );
    let (name, route_text) = (table_text(&route.map.source.name), route_json(route));
    let failed = |error: Error| failed("take a table as copied")(error);
    let marked = under_lease(session, lease, "", failed, || async {
        session.execute(&sql, &[&name, &route_text]).await.map_err(failed)
    });
    if marked.await? == 0 { Err(problem::not_planned(&route.map.source.name)) } else { Ok(()) }
}

/// Makes a table be copied again at a new point. Its rows at the target are ours, so they will be removed. May be
/// repeated.
pub async fn recopy(session: &Session, lease: &Lease, table: &TableName) -> Result<(), Problem> {
    let name = table_text(table);
    let condition = format!("{} AND source_table = $1", lease.key.condition());
    // A table that was taken as it is (copies = 0) becomes ours by this command.
    let plan_again = format!(
        "UPDATE {} SET state = 'planned', route = NULL, copies = greatest(copies, 1) WHERE {condition}",
        lease.key.table("copy_table")
    );
    let forget_chunks = format!("DELETE FROM {} WHERE {condition}", lease.key.table("copy_chunk"));
    let failed = |error: Error| failed("plan a table again")(error);
    let planned = under_lease(session, lease, "", failed, || async {
        let planned = session.execute(&plan_again, &[&name]).await.map_err(failed)?;
        session.execute(&forget_chunks, &[&name]).await.map_err(failed)?;
        Ok(planned)
    });
    if planned.await? == 0 { Err(problem::not_planned(table)) } else { Ok(()) }
}

/// Makes every table of the stream be copied again. May be repeated.
pub async fn recopy_all(session: &Session, lease: &Lease) -> Result<(), Problem> {
    let condition = lease.key.condition();
    let plan_again = format!(
        "UPDATE {} SET state = 'planned', route = NULL, \
         copies = CASE WHEN state = 'planned' THEN copies ELSE greatest(copies, 1) END WHERE {condition}",
        lease.key.table("copy_table")
    );
    let forget_chunks = format!("DELETE FROM {} WHERE {condition}", lease.key.table("copy_chunk"));
    let failed = |error: Error| failed("plan all tables again")(error);
    under_lease(session, lease, "", failed, || async {
        session.execute(&plan_again, &[]).await.map_err(failed)?;
        session.execute(&forget_chunks, &[]).await.map(drop).map_err(failed)
    })
    .await
}

/// Forgets every table of the stream, as if it had never begun. Rows stay as they are. May be repeated.
pub async fn forget_all(session: &Session, lease: &Lease) -> Result<(), Problem> {
    let tables = ["copy_chunk", "copy_table"];
    let forget = tables.map(|table| format!("DELETE FROM {} WHERE {}", lease.key.table(table), lease.key.condition()));
    let failed = |error: Error| failed("forget the tables")(error);
    under_lease(session, lease, "", failed, || async {
        for sql in &forget {
            session.execute(sql, &[]).await.map_err(failed)?;
        }
        Ok(())
    })
    .await
}

pub(super) fn route_json(route: &TableRoute) -> String {
    serde_json::to_string(route).expect("a route is plain data")
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
