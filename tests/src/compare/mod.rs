//! Comparison of two databases by queries of their own, which share nothing with the engine.
//!
//! Every row travels as the text that the server itself prints. Rows are compared as a multiset by their hashes of 128
//! bits, so that neither side has to sort and tables without a key count too; where hashes are left over, a second
//! reading says which rows they were.

mod canonical;
mod tables;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::{Pin, pin};

use futures_util::StreamExt;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

use crate::database::{Database, Host};
use crate::wire;
use canonical::Rendering;
use tables::{Table, tables};

const DIFFERENCES_SHOWN: usize = 10;
const ROW_CHARACTERS_SHOWN: usize = 300;
/// Both sides print values alike, whatever their databases' defaults are.
const SESSION: &str = "SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO';
    SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET statement_timeout = 0;
    SET standard_conforming_strings = on";

/// Fails the test unless every ordinary table of the source, outside state schemas, has the same rows at the target.
#[track_caller]
pub fn assert_equal(source: &Database, target: &Database) {
    let found = differences(source, target, None);
    assert!(found.is_empty(), "source and target differ:\n{}", found.join("\n"));
}

/// Returns the first differences between the tables of `schema`, or of all schemas. Rows are compared as a multiset, on
/// the columns of the source: so tables without a key count too, and the target may have more columns. Hidden columns
/// of CockroachDB are not compared.
///
/// # Panics
/// If there is no table to compare.
pub fn differences(source: &Database, target: &Database, schema: Option<&str>) -> Vec<String> {
    wire::runtime().block_on(async {
        let tables = tables(&open(source).await, source, schema).await;
        assert!(!tables.is_empty(), "there is nothing to compare in {}", source.name);
        let across = source.cockroach().is_some() != target.cockroach().is_some();
        let (left, right) = (Side::open(source, across).await, Side::open(target, across).await);
        let mut found = Vec::new();
        for table in &tables {
            if let Err(problem) = differences_of_table(table, &left, &right, &mut found).await {
                found.push(format!("{table}: {problem}"));
            }
        }
        found
    })
}

/// Returns the number of rows in each table together, as a check that a test compared something.
pub fn row_count(database: &Database) -> u64 {
    wire::runtime().block_on(async {
        let client = open(database).await;
        let mut count = 0;
        for table in tables(&client, database, None).await {
            let rows = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.expect("rows are counted");
            count += rows.get::<_, i64>(0).cast_unsigned();
        }
        count
    })
}

async fn open(database: &Database) -> Client {
    let client = wire::connect(database).await.unwrap_or_else(|error| panic!("{}: {error}", database.name));
    client.batch_execute(SESSION).await.unwrap_or_else(|error| panic!("{}: {error}", database.name));
    client
}

/// One of the two databases.
struct Side {
    client: Client,
    /// PostgreSQL reads a partitioned table's rows through the table above them too, unless it is told not to.
    only: &'static str,
    /// Whether the other side is of another kind, which prints some values in another way.
    across: bool,
}

impl Side {
    async fn open(database: &Database, across: bool) -> Side {
        let only = match database.host {
            Host::Postgres(_) => "ONLY ",
            Host::Cockroach(_) => "",
        };
        Side { client: open(database).await, only, across }
    }

    async fn read(&self, table: &Table) -> Result<SimpleQueryStream, String> {
        let query = format!("SELECT {} FROM {}{table}", table.selected(), self.only);
        self.client.simple_query_raw(&query).await.map_err(|error| said(&error))
    }
}

type Counts = HashMap<(u64, u64), i64>;

/// Adds what one side has and takes off what the other has: what is left is the difference.
async fn differences_of_table(table: &Table, left: &Side, right: &Side, found: &mut Vec<String>) -> Result<(), String> {
    let mut counts = Counts::new();
    let (rows_left, rows_right) = (left.read(table).await?, right.read(table).await?);
    let (mut rows_left, mut rows_right) = (pin!(rows_left), pin!(rows_right));
    let (mut left_goes_on, mut right_goes_on) = (true, true);
    while left_goes_on || right_goes_on {
        left_goes_on = left_goes_on && count(&mut rows_left, table, left.across, 1, &mut counts).await?;
        right_goes_on = right_goes_on && count(&mut rows_right, table, right.across, -1, &mut counts).await?;
    }
    if counts.is_empty() {
        return Ok(());
    }
    let total = |wanted: fn(&&i64) -> bool| counts.values().filter(wanted).map(|count| count.unsigned_abs()).sum();
    let (missing, extra): (u64, u64) = (total(|count| **count > 0), total(|count| **count < 0));
    name_rows(table, left, "missing", &mut counts.clone(), 1, found).await?;
    name_rows(table, right, "not in the source but", &mut counts, -1, found).await?;
    found.push(format!("{table}: {missing} missing and {extra} extra rows at the target"));
    Ok(())
}

/// Counts the next row; false: there is none.
async fn count(
    rows: &mut Pin<&mut SimpleQueryStream>,
    table: &Table,
    across: bool,
    by: i64,
    counts: &mut Counts,
) -> Result<bool, String> {
    let Some(row) = next(rows).await? else { return Ok(false) };
    let entry = counts.entry(hash(&row, table, across)).or_default();
    *entry += by;
    if *entry == 0 {
        counts.remove(&hash(&row, table, across));
    }
    Ok(true)
}

async fn next(rows: &mut Pin<&mut SimpleQueryStream>) -> Result<Option<SimpleQueryRow>, String> {
    loop {
        match rows.next().await {
            None => return Ok(None),
            Some(Ok(SimpleQueryMessage::Row(row))) => return Ok(Some(row)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(said(&error)),
        }
    }
}

/// Reads the table of one side again for rows that were left over on it.
async fn name_rows(
    table: &Table,
    side: &Side,
    what: &str,
    counts: &mut Counts,
    sign: i64,
    found: &mut Vec<String>,
) -> Result<(), String> {
    let mut rows = pin!(side.read(table).await?);
    while let Some(row) = next(&mut rows).await? {
        if found.len() >= DIFFERENCES_SHOWN {
            break;
        }
        let Some(left_over) = counts.get_mut(&hash(&row, table, side.across)) else { continue };
        if *left_over * sign > 0 {
            *left_over -= sign;
            found.push(format!("{table}: {what} at the target: {}", shown(&row)));
        }
    }
    Ok(())
}

fn hash(row: &SimpleQueryRow, table: &Table, across: bool) -> (u64, u64) {
    let (mut first, mut second) = (DefaultHasher::new(), DefaultHasher::new());
    1u8.hash(&mut second);
    for (index, column) in table.columns.iter().enumerate() {
        let rendering = if across { column.rendering } else { Rendering::AsPrinted };
        let value = row.get(index).map(|value| rendering.canonical(value));
        value.hash(&mut first);
        value.hash(&mut second);
    }
    (first.finish(), second.finish())
}

fn shown(row: &SimpleQueryRow) -> String {
    let values: Vec<&str> = (0..row.len()).map(|index| row.get(index).unwrap_or("NULL")).collect();
    values.join(" | ").chars().take(ROW_CHARACTERS_SHOWN).collect()
}

fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| format!("{}: {}", error.code().code(), error.message()))
}
