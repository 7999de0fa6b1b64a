//! Comparison of two databases by queries of their own, which share nothing with the engine.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use crate::database::Database;

const DIFFERENCES_SHOWN: usize = 10;
/// Both sides print values alike, whatever their databases' defaults are.
const SESSION: &str =
    "SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET search_path = ''; SET statement_timeout = 0;
    SET standard_conforming_strings = on;\n";
const TABLE_MARK: &str = "\u{1}table ";

/// Fails the test unless every ordinary table of the source, outside state schemas, has the same rows at the target.
#[track_caller]
pub fn assert_equal(source: &Database, target: &Database) {
    let found = differences(source, target, None);
    assert!(found.is_empty(), "source and target differ:\n{}", found.join("\n"));
}

/// Returns the first differences between the tables of `schema`, or of all schemas. Rows are compared as a multiset, on
/// the columns of the source: so tables without a key count too, and the target may have more columns.
///
/// # Panics
/// If there is no table to compare.
pub fn differences(source: &Database, target: &Database, schema: Option<&str>) -> Vec<String> {
    let tables = tables(source, schema);
    assert!(!tables.is_empty(), "there is nothing to compare in {}", source.name);
    let mut found = Vec::new();
    let (mut left, mut right) = (Rows::read(source, &tables), Rows::read(target, &tables));
    for table in &tables {
        left.enter(table);
        right.enter(table);
        differences_of_table(&table.name, &mut left, &mut right, &mut found);
    }
    for rows in [left, right] {
        if let Some(problem) = rows.finish() {
            found.push(problem);
        }
    }
    found
}

/// Returns the number of rows in each table together, as a check that a test compared something.
pub fn row_count(database: &Database) -> u64 {
    let one = |table: &Table| database.sql(&format!("SELECT count(*) FROM {}", table.name)).parse::<u64>().unwrap_or(0);
    tables(database, None).iter().map(one).sum()
}

/// Both sides give their rows in one order, so that walking along both finds what one has and the other lacks.
fn differences_of_table(table: &str, left: &mut Rows, right: &mut Rows, found: &mut Vec<String>) {
    let (mut missing, mut extra) = (0u64, 0u64);
    let mut note = |what: &str, row: &str, count: &mut u64| {
        *count += 1;
        if found.len() < DIFFERENCES_SHOWN {
            let row: String = row.chars().take(300).collect();
            found.push(format!("{table}: {what} at the target: {row}"));
        }
    };
    let (mut a, mut b) = (left.next(), right.next());
    while a.is_some() || b.is_some() {
        match (&a, &b) {
            (Some(x), Some(y)) if x == y => {
                a = left.next();
                b = right.next();
            }
            (Some(x), y) if y.as_ref().is_none_or(|y| x.as_bytes() < y.as_bytes()) => {
                note("missing", x, &mut missing);
                a = left.next();
            }
            (_, Some(y)) => {
                note("not in the source but", y, &mut extra);
                b = right.next();
            }
            (_, None) => unreachable!("the loop ends when both sides have ended"),
        }
    }
    if missing + extra > 0 {
        found.push(format!("{table}: {missing} missing and {extra} extra rows at the target"));
    }
}

#[derive(Debug)]
struct Table {
    name: String,
    columns: String,
}

fn tables(database: &Database, schema: Option<&str>) -> Vec<Table> {
    let filter = schema.map_or(String::new(), |schema| format!("AND n.nspname = '{schema}'"));
    let query = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) || '|' || coalesce(
                  (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute
                    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), '')
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'
            AND n.nspname NOT IN ('information_schema', 'tidegate') {filter}
          ORDER BY 1"
    );
    let lines = database.sql(&query);
    let split = |line: &str| {
        let (name, columns) = line.rsplit_once('|').expect("the query joins with a bar");
        Table { name: name.to_owned(), columns: columns.to_owned() }
    };
    lines.lines().filter(|line| !line.is_empty()).map(split).collect()
}

/// The rows of several tables, one table after another, each in byte order.
struct Rows {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// A line that was read and not yet given.
    ahead: Option<String>,
    ended: bool,
}

impl Rows {
    fn read(database: &Database, tables: &[Table]) -> Rows {
        let mut script = String::from(SESSION);
        for table in tables {
            script.push_str(&format!(
                "\\echo '{TABLE_MARK}{}'
                 COPY (SELECT r FROM (SELECT ROW({})::text AS r FROM ONLY {}) AS s
                        ORDER BY r COLLATE \"C\") TO STDOUT;\n",
                table.name.replace('\'', "''"),
                table.columns,
                table.name
            ));
        }
        let mut command = database.server.psql_command(&database.name);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql can be run");
        let mut stdin = child.stdin.take().expect("stdin was asked for");
        // A thread, because psql stops reading while its output waits to be read. What it lacks then shows as a table
        // that never begins.
        std::thread::spawn(move || {
            let _ = stdin.write_all(script.as_bytes());
        });
        let lines = BufReader::new(child.stdout.take().expect("stdout was asked for"));
        Rows { child, lines, ahead: None, ended: false }
    }

    fn line(&mut self) -> Option<String> {
        if let Some(line) = self.ahead.take() {
            return Some(line);
        }
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("psql prints UTF-8");
        self.ended = read == 0;
        (read > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// Skips to the rows of this table; without it there are none.
    fn enter(&mut self, table: &Table) {
        let begin = format!("{TABLE_MARK}{}", table.name);
        match self.line() {
            Some(line) if line == begin => {}
            Some(line) => self.ahead = Some(line),
            None => {}
        }
    }

    fn next(&mut self) -> Option<String> {
        let line = self.line()?;
        if line.starts_with(TABLE_MARK) {
            self.ahead = Some(line);
            return None;
        }
        Some(line)
    }

    fn finish(mut self) -> Option<String> {
        while self.line().is_some() {}
        let status = self.child.wait().expect("psql can be waited for");
        (!status.success()).then(|| format!("a table could not be read ({status}): see psql's message"))
    }
}
