//! Cutting a table into ranges of its key.
//!
//! There is nothing to guard: at one time a table is always the same. What is looked at is whether it still has the
//! columns that were planned, because the stream will tell it as it is now.

use std::sync::Arc;

use tidegate_connect::Session;
use tidegate_model::{Chunk, Problem, TableGuard, TableMap, TableName, Wanted};
use tokio_postgres::{Error, SimpleQueryMessage};

use super::problem;
use super::snapshot::View;
use crate::catalog::is_computed;
use crate::statement::{self, KeyRange};

/// Rows that are looked at for the size of a row.
const SAMPLE_ROWS: u64 = 100;
/// The most rows of a chunk, however narrow they are.
const CHUNK_ROWS_MAX: u64 = 500_000;

/// Where a table was cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ranges {
    /// The columns of the key with their types; empty for a table that is read in one go.
    key: Vec<(String, String)>,
    /// The last key of each range but the last one.
    cuts: Vec<Vec<String>>,
}

impl Ranges {
    fn chunks(&self) -> Vec<Chunk> {
        Chunk::cut(self.cuts.len() as u64 + 1, 1)
    }

    /// Returns what a chunk stands for: its pages are numbers of ranges.
    pub(super) fn range(&self, chunk: &Chunk) -> KeyRange {
        let cut = |number: u64| usize::try_from(number).ok().and_then(|number| self.cuts.get(number)).cloned();
        KeyRange {
            key: self.key.clone(),
            after: chunk.first_page.checked_sub(1).and_then(cut),
            until: chunk.end_page.and_then(|end| end.checked_sub(1)).and_then(cut),
        }
    }
}

/// A table whose ranges are known.
#[derive(Debug)]
pub struct CockroachGuard {
    ranges: Arc<Ranges>,
}

/// Compares a table with what the plan knows of it, and cuts it.
pub(super) async fn take(view: &View, table: &TableMap) -> Result<CockroachGuard, Problem> {
    let session = view.session("copy-guard").await?;
    let name = &table.source.name;
    let columns = Columns::of(&session, name).await.map_err(|error| problem::reading(view, name, error))?;
    if let Some(difference) = columns.difference(table) {
        return Err(problem::changed(&view.name, name, &difference));
    }
    if let Some(ranges) = view.ranges(table.source.id) {
        return Ok(CockroachGuard { ranges });
    }
    let key = key(&session, name, &columns).await.map_err(|error| problem::reading(view, name, error))?;
    let ranges = cut(&session, view, table, key).await.map_err(|error| problem::reading(view, name, error))?;
    session.close().await;
    Ok(CockroachGuard { ranges: view.keep_ranges(table.source.id, ranges) })
}

struct Column {
    name: String,
    type_name: String,
    hidden: bool,
    computed: bool,
}

struct Columns(Vec<Column>);

impl Columns {
    async fn of(session: &Session, table: &TableName) -> Result<Columns, Error> {
        let rows = session.query(statement::COLUMNS_OF_TABLE, &[&&*table.schema, &&*table.name]).await?;
        let read = |row: &tokio_postgres::Row| Column {
            name: row.get(0),
            type_name: row.get(1),
            hidden: row.get::<_, &str>(2) == "YES",
            computed: is_computed(row.get(3), None),
        };
        Ok(Columns(rows.iter().map(read).collect()))
    }

    fn difference(&self, table: &TableMap) -> Option<String> {
        if self.0.is_empty() {
            return Some("it was dropped or renamed".to_owned());
        }
        let carried: Vec<&str> =
            self.0.iter().filter(|column| !column.hidden && !column.computed).map(|column| &*column.name).collect();
        let planned = &table.source.columns;
        let gone = planned.iter().find(|column| !carried.contains(&&*column.name));
        let new = carried.iter().find(|name| !planned.iter().any(|column| *column.name == ***name));
        match (gone, new) {
            (Some(column), _) => Some(format!("column \"{}\" is gone", column.name)),
            (None, Some(name)) => Some(format!("column \"{name}\" is new")),
            (None, None) => None,
        }
    }
}

/// Returns the columns that order the table: its primary key without what is computed (the shard of a hash-sharded key,
/// which the rest tells), hidden columns included.
async fn key(session: &Session, table: &TableName, columns: &Columns) -> Result<Vec<(String, String)>, Error> {
    let rows = session.query(statement::PRIMARY_KEY_OF_TABLE, &[&&*table.schema, &&*table.name]).await?;
    let typed = |row: &tokio_postgres::Row| {
        let name: &str = row.get(0);
        let column = columns.0.iter().find(|column| column.name == name && !column.computed)?;
        Some((column.name.clone(), column.type_name.clone()))
    };
    Ok(rows.iter().filter_map(typed).collect())
}

/// Walks over the key: the server reads it once, and sends a row for each range.
async fn cut(session: &Session, view: &View, table: &TableMap, key: Vec<(String, String)>) -> Result<Ranges, Error> {
    let mut cuts = Vec::new();
    if key.is_empty() {
        return Ok(Ranges { key, cuts });
    }
    let mut range = KeyRange { key, ..KeyRange::default() };
    let rows = rows_each(session, view, table, &range).await?;
    let name = &table.source.name;
    loop {
        let answer = session.simple_query(&range.step(name, rows, view.at)).await?;
        let next: Option<Vec<String>> = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect(),
            _ => None,
        });
        let Some(next) = next else { return Ok(Ranges { key: range.key, cuts }) };
        range.after = Some(next.clone());
        cuts.push(next);
    }
}

/// Returns how many rows make a chunk, from the first rows of the table.
async fn rows_each(session: &Session, view: &View, table: &TableMap, all: &KeyRange) -> Result<u64, Error> {
    let columns: Vec<&str> = table.columns.iter().map(|column| &*column.source).collect();
    let answer = session.simple_query(&all.sample(&table.source.name, &columns, SAMPLE_ROWS, view.at)).await?;
    let (mut rows, mut bytes) = (0, 0);
    for message in answer {
        if let SimpleQueryMessage::Row(row) = message {
            rows += 1;
            bytes += (0..row.len()).filter_map(|index| row.get(index)).map(|text| text.len() as u64 + 1).sum::<u64>();
        }
    }
    let bytes_each = bytes.checked_div(rows).unwrap_or(0).max(1);
    Ok((view.config.chunk_bytes / bytes_each).clamp(1, CHUNK_ROWS_MAX))
}

impl TableGuard for CockroachGuard {
    fn chunks(&self) -> Vec<Chunk> {
        self.ranges.chunks()
    }

    /// Never: nobody waits for it.
    async fn wanted(&mut self) -> Wanted {
        std::future::pending().await
    }

    async fn release(self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_ranges_between_the_cuts() {
        let key = vec![("id".to_owned(), "INT8".to_owned())];
        let cut = |at: &str| vec![at.to_owned()];
        let ranges = Ranges { key: key.clone(), cuts: vec![cut("10"), cut("20")] };
        let between = |after: Option<&str>, until: Option<&str>| KeyRange {
            key: key.clone(),
            after: after.map(cut),
            until: until.map(cut),
        };
        let found: Vec<KeyRange> = ranges.chunks().iter().map(|chunk| ranges.range(chunk)).collect();
        assert_eq!(found, [between(None, Some("10")), between(Some("10"), Some("20")), between(Some("20"), None)]);
    }

    #[test]
    fn a_table_without_cuts_is_one_range() {
        let ranges = Ranges { key: Vec::new(), cuts: Vec::new() };
        let chunks = ranges.chunks();
        assert_eq!(chunks.len(), 1);
        assert_eq!(ranges.range(&chunks[0]), KeyRange::default());
    }
}
