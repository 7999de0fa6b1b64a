//! Conflicts of a migration whose databases are both open for writing: how they are remembered, and what is told of them.
//!
//! Each stream records what it finds in the transaction that applies the change, so that a conflict stands there exactly
//! once, however often the process is killed. Both streams mostly see one and the same conflict, each from its side:
//! [`merged`] makes one of them. Values are not kept; keys are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_connect::Session;
use tidegate_model::{Problem, Stream, TableRoute};
use tokio_postgres::types::ToSql;

use crate::plan::{Contest, Found};
use crate::repair::RowOf;
use crate::retry;
use crate::state::{Lease, StateKey, failed, table_text};

/// Columns of a conflict, as they are written.
pub(crate) const COLUMNS: &str =
    "migration, stream, position, place, source_table, row_key, operation, found_row, found_position";

/// What a stream has recorded of a change that found another row than it expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which stream.
    pub stream: Stream,
    /// Where the change is in the history that the stream reads.
    pub position: String,
    /// Which change of its transaction.
    pub place: i64,
    /// The table, by its name at the source.
    pub table: String,
    /// The key: names at the source and values, as a JSON object.
    pub key: String,
    /// `insert`, `update` or `delete`.
    pub operation: String,
    /// What it has found: `no row`, `another row`, or `a constraint` that refuses it.
    pub found: String,
    /// When the row that was found was written, where the target tells.
    pub found_position: Option<String>,
    /// Whether both sides are known to have one and the same row since.
    pub settled: bool,
}

/// A conflict as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The table, by its name at the source.
    pub table: String,
    /// The key: columns and values.
    pub key: BTreeMap<String, String>,
    /// Changes of the source that found another row at the target, oldest first: none where only the way back saw it.
    pub source: Vec<Place>,
    /// Changes of the target that found another row at the source, or were found there by the source's.
    pub target: Vec<Place>,
    /// Whose row stays: always that of the target, which is the truth.
    pub kept: String,
    /// Whether both sides are known to have that row.
    pub settled: bool,
}

/// A change that collided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Where it is in the history of its side.
    pub position: String,
    /// `insert`, `update` or `delete`; nothing where only its row was found.
    pub operation: Option<String>,
    /// What it has found at the other side: `no row`, `another row`, or `a constraint` that refuses it.
    pub found: Option<String>,
}

impl Conflict {
    /// Returns the key for people.
    pub fn key_text(&self) -> String {
        let part = |parts: Vec<&String>| parts.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("({})=({})", part(self.key.keys().collect()), part(self.key.values().collect()))
    }
}

/// Makes one conflict of all that both streams saw of a row.
pub fn merged(seen: &[Seen]) -> Vec<Conflict> {
    let mut rows: BTreeMap<(&str, &str), Vec<&Seen>> = BTreeMap::new();
    for one in seen {
        rows.entry((&one.table, &one.key)).or_default().push(one);
    }
    let conflict = |((table, key), seen): ((&str, &str), Vec<&Seen>)| {
        let place = |one: &&Seen| Place {
            position: one.position.clone(),
            operation: Some(one.operation.clone()),
            found: Some(one.found.clone()),
        };
        let of = |stream| seen.iter().filter(move |one| one.stream == stream);
        let (source, mut target): (Vec<Place>, Vec<Place>) =
            (of(Stream::Forward).map(place).collect(), of(Stream::Reverse).map(place).collect());
        for found in of(Stream::Forward).filter_map(|one| one.found_position.as_ref()) {
            if target.iter().all(|place| place.position != *found) {
                target.push(Place { position: found.clone(), operation: None, found: None });
            }
        }
        target.sort();
        Conflict {
            table: table.to_owned(),
            key: serde_json::from_str(key).unwrap_or_default(),
            source,
            target,
            kept: "target".to_owned(),
            settled: seen.iter().all(|one| one.settled),
        }
    };
    rows.into_iter().map(conflict).collect()
}

/// Returns the table and the key of a row as both streams call them: by the names of the migration's source.
pub(crate) fn named(contest: &Contest, stream: Stream) -> (String, String) {
    let table = if stream == Stream::Forward { &contest.source } else { &contest.target };
    let name = |(source, target, value): &(String, String, String)| {
        (if stream == Stream::Forward { source } else { target }.clone(), value.clone())
    };
    let key: BTreeMap<String, String> = contest.key.iter().map(name).collect();
    (table_text(table), serde_json::to_string(&key).expect("names and values are text"))
}

/// Returns SQL that records a conflict. Parameters: position, place, table, key, operation, found, found position.
pub(crate) fn record_sql(lease: &Lease) -> String {
    let key = &lease.key;
    format!(
        "INSERT INTO {} ({COLUMNS}) SELECT '{}', '{}', $1::text, $2::INT8, $3::text, $4::text, $5::text, $6::text, \
         $7::text",
        key.table("conflict"),
        key.migration,
        key.stream
    )
}

/// Returns what a conflict has found, in a word.
pub(crate) fn found_word(found: Found) -> &'static str {
    match found {
        Found::Nothing => "no row",
        Found::AsBefore => "the row before",
        Found::Otherwise => "another row",
    }
}

/// Reads what a stream has recorded, in the database that it writes, oldest first.
pub async fn read(session: &Session, key: &StateKey) -> Result<Vec<Seen>, Problem> {
    select(session, key, "").await
}

/// Reads likewise what is not settled.
pub async fn unsettled(session: &Session, key: &StateKey) -> Result<Vec<Seen>, Problem> {
    select(session, key, " AND NOT settled").await
}

async fn select(session: &Session, key: &StateKey, which: &str) -> Result<Vec<Seen>, Problem> {
    let sql = format!(
        "SELECT position, place, source_table, row_key, operation, found_row, found_position, settled FROM {} WHERE {}{which} \
         ORDER BY found_at, position, place",
        key.table("conflict"),
        key.condition()
    );
    let rows = retry::repeatable(|| async { session.query(&sql, &[]).await.map_err(failed("read conflicts")) });
    let seen = |row: &tokio_postgres::Row| Seen {
        stream: key.stream,
        position: row.get(0),
        place: row.get(1),
        table: row.get(2),
        key: row.get(3),
        operation: row.get(4),
        found: row.get(5),
        found_position: row.get(6),
        settled: row.get(7),
    };
    Ok(rows.await?.iter().map(seen).collect())
}

/// Returns how many changes of a stream have found another row than they expected.
pub async fn count(session: &Session, key: &StateKey) -> Result<u64, Problem> {
    let sql = format!("SELECT count(*) FROM {} WHERE {}", key.table("conflict"), key.condition());
    let row = retry::repeatable(|| async { session.query_one(&sql, &[]).await.map_err(failed("count conflicts")) });
    Ok(row.await?.get::<_, i64>(0).unsigned_abs())
}

/// Returns the rows that conflicts are about, as a stream with these routes writes them. What no route carries is left out.
pub fn rows_of(seen: &[Seen], routes: &[TableRoute], stream: Stream) -> Vec<RowOf> {
    let row = |one: &Seen| {
        let route = routes.iter().position(|route| {
            let name = if stream == Stream::Forward { &route.map.source.name } else { &route.map.target };
            table_text(name) == one.table
        })?;
        let map = &routes[route].map;
        let values: BTreeMap<String, String> = serde_json::from_str(&one.key).ok()?;
        let value = |index: &usize| {
            let column = &map.columns[*index];
            let name = if stream == Stream::Forward { &column.source } else { &column.target };
            values.get(&name.to_string()).cloned()
        };
        Some(RowOf { route, key: map.key.iter().map(value).collect::<Option<_>>()? })
    };
    let mut rows: Vec<RowOf> = seen.iter().filter_map(row).collect();
    rows.sort();
    rows.dedup();
    rows
}

/// Notes that both sides have one and the same row since these conflicts, which are of one row. What the stream has seen of
/// it since stays as it is.
pub async fn note_settled(session: &Session, key: &StateKey, of_row: &[&Seen]) -> Result<(), Problem> {
    let ours: Vec<&&Seen> = of_row.iter().filter(|one| one.stream == key.stream).collect();
    let Some(first) = ours.first() else { return Ok(()) };
    let sql = format!(
        "UPDATE {} SET settled = true WHERE {} AND source_table = $1 AND row_key = $2 AND position = ANY ($3)",
        key.table("conflict"),
        key.condition()
    );
    // All that one transaction changed of a row was recorded at once.
    let positions: Vec<&str> = ours.iter().map(|one| &*one.position).collect();
    let params: [&(dyn ToSql + Sync); 3] = [&first.table, &first.key, &positions];
    retry::repeatable(|| async { session.execute(&sql, &params).await.map_err(failed("settle conflicts")) })
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stream: Stream, key: &str, position: &str, found: Option<&str>) -> Seen {
        Seen {
            stream,
            position: position.to_owned(),
            place: 0,
            table: "public.t".to_owned(),
            key: format!("{{\"id\":\"{key}\"}}"),
            operation: "update".to_owned(),
            found: "another row".to_owned(),
            found_position: found.map(str::to_owned),
            settled: stream == Stream::Forward,
        }
    }

    #[test]
    fn what_both_streams_see_of_a_row_is_one_conflict_with_both_positions() {
        let all = [
            seen(Stream::Forward, "1", "0/10", Some("5.0000000000")),
            seen(Stream::Forward, "2", "0/20", Some("6.0000000000")),
            seen(Stream::Reverse, "1", "5.0000000000", None),
            seen(Stream::Reverse, "3", "7.0000000000", None),
        ];
        let told = merged(&all);
        let told: Vec<_> =
            told.iter().map(|one| (one.key_text(), one.source.len(), one.target.len(), one.settled)).collect();
        assert_eq!(
            told,
            [
                ("(id)=(1)".to_owned(), 1, 1, false),
                ("(id)=(2)".to_owned(), 1, 1, true),
                ("(id)=(3)".to_owned(), 0, 1, false)
            ]
        );
    }
}
