//! The shapes of statements and their SQL text. Every text is self-checking: it raises 22012 (division by zero) at the
//! server unless it affected as many rows as planned, so that a COMMIT can be sent behind it unanswered.
//!
//! Values arrive as arrays of text and are cast per column to the target's type. The division cannot be skipped: it is
//! the statement's only output, and a data-modifying WITH always runs to its end (PostgreSQL manual, 7.8.4
//! Data-Modifying Statements in WITH; CockroachDB docs, "Common Table Expressions").
//!
//! CockroachDB reads the same statements in its own words: no ONLY, no OVERRIDING, and what PostgreSQL does with `ctid`
//! goes by the hidden `rowid` of a table without a key.

mod cast;
mod contest;
mod one;
mod replace;

use tidegate_model::{ColumnMap, TableName};

use super::table::Table;
use crate::dialect::Dialect;
use crate::quote;

/// A set of column indices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ColumnSet(Box<[u64]>);

impl ColumnSet {
    pub fn of(columns: usize, members: impl IntoIterator<Item = usize>) -> Self {
        let mut words = vec![0_u64; columns.div_ceil(64)].into_boxed_slice();
        for index in members {
            words[index / 64] |= 1 << (index % 64);
        }
        ColumnSet(words)
    }

    pub fn contains(&self, index: usize) -> bool {
        self.0[index / 64] & 1 << (index % 64) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// What a statement does to its table. Together with the table it determines the SQL text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// New rows. Parameters: every column, rows.
    Insert,
    /// Removes rows by key. Parameters: the key columns, rows.
    Delete,
    /// Changes rows found by key, and moves their key if `rekey`. Parameters: the old key's columns, the columns of
    /// `set`, with `rekey` the new key's columns, rows. With nothing to set it only checks that the rows are there.
    Update { set: ColumnSet, rekey: bool },
    /// Takes rows out and puts them back changed, which is how values go round in circles: no order of updates can do
    /// that. Parameters: as with `Update`. On PostgreSQL only.
    Replace { set: ColumnSet, rekey: bool },
    /// Removes one of the rows that equal a given one; with a key, the only row that has it need not equal. `nulls` are
    /// the columns that are NULL in it. Parameters: the other columns, each one cell.
    DeleteOne { nulls: ColumnSet },
    /// Changes a row found likewise. Parameters: as above, then the cells of `set`.
    UpdateOne { nulls: ColumnSet, set: ColumnSet },
    /// Reads and locks the row of a key and, with `compare`, says whether it is a given one. Changes nothing and checks
    /// nothing: its answer does. Parameters, each one cell: the key columns, with `compare` every column.
    Contest { compare: bool },
}

impl Shape {
    /// Writes the SQL text.
    pub fn sql(&self, table: &Table) -> String {
        let mut input = Input::new(table.dialect, 0);
        match self {
            Shape::Insert => {
                let done = insert(table, &mut input);
                input.checked(&done)
            }
            Shape::Delete => {
                let done = delete(table, &mut input);
                input.checked(&done)
            }
            Shape::Update { set, rekey: false } if set.is_empty() => probe(table, input),
            Shape::Update { set, rekey } => update(table, input, set, *rekey),
            Shape::Replace { set, rekey } => replace::replace(table, input, set, *rekey),
            Shape::DeleteOne { nulls } => one::delete_one(table, nulls),
            Shape::UpdateOne { nulls, set } => one::update_one(table, nulls, set),
            Shape::Contest { compare } => contest::contest(table, *compare),
        }
    }

    /// Writes the text of one statement that does this in several tables, for foreign keys that hold only when all of it
    /// is done: servers check them when a statement ends. Parameters: those of the first table, of the second and so on.
    /// For inserts and deletes only.
    pub fn together(&self, tables: &[&Table]) -> String {
        let dialect = tables.first().map_or(Dialect::Postgres, |table| table.dialect);
        let (mut parts, mut counts, mut params) = (Vec::new(), Vec::new(), 0);
        for (place, table) in tables.iter().enumerate() {
            let mut input = Input::new(dialect, params);
            let done = if *self == Shape::Insert { insert(table, &mut input) } else { delete(table, &mut input) };
            parts.push(format!("done{place} AS ({done})"));
            counts.push(format!("(SELECT count(*) FROM done{place}) = {}", input.rows_param()));
            params += input.names.len() + 1;
        }
        format!("WITH {} SELECT {}", parts.join(", "), check(dialect, &counts.join(" AND ")))
    }
}

/// The rows of a statement: `unnest($1::text[], ...) AS v(...)`, numbering parameters as columns are added.
struct Input {
    dialect: Dialect,
    /// Parameters that others take before.
    before: usize,
    names: Vec<String>,
}

impl Input {
    fn new(dialect: Dialect, before: usize) -> Self {
        Input { dialect, before, names: Vec::new() }
    }

    /// Adds a column and returns its value, cast to the target's type.
    fn cast(&mut self, name: String, column: &ColumnMap) -> String {
        let value = format!("v.{name}::{}", cast::type_of(self.dialect, column));
        self.names.push(name);
        value
    }

    fn rows(&self) -> String {
        let text = if self.dialect.is_cockroach() { "STRING" } else { "text" };
        let numbers = self.before + 1..=self.before + self.names.len();
        let arrays: Vec<String> = numbers.map(|n| format!("${n}::{text}[]")).collect();
        format!("unnest({}) AS v({})", arrays.join(", "), self.names.join(", "))
    }

    /// The parameter that says how many rows there must be. After all columns.
    fn rows_param(&self) -> String {
        let number = self.before + self.names.len() + 1;
        if self.dialect.is_cockroach() { format!("${number}::INT8") } else { format!("${number}::int8") }
    }

    /// The condition that the key of `t` is that of the input.
    fn key_condition(&mut self, table: &Table) -> String {
        let equal = |(place, column): (usize, &ColumnMap)| {
            let value = self.cast(format!("k{place}"), column);
            format!("t.{} = {value}", quote::identifier(&column.target))
        };
        table.key_columns().enumerate().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    fn checked(&self, done: &str) -> String {
        checked(self.dialect, done, &self.rows_param())
    }
}

/// Wraps a data-modifying statement that ends in `RETURNING 1` into the check of its row count.
fn checked(dialect: Dialect, done: &str, rows: &str) -> String {
    format!("WITH done AS ({done}) SELECT {} FROM done", check(dialect, &format!("count(*) = {rows}")))
}

/// An expression that raises 22012 unless the condition holds. CockroachDB has no cast from boolean to a number that its
/// releases agree on.
fn check(dialect: Dialect, condition: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("1 / ({condition})::int"),
        Dialect::Cockroach => format!("1 / CASE WHEN {condition} THEN 1 ELSE 0 END"),
    }
}

/// The name of the table itself, without those that inherit from it.
fn only(table: &Table) -> String {
    let name = quote::table(&table.route.map.target);
    if table.dialect.is_cockroach() { name } else { format!("ONLY {name}") }
}

fn target_names<'a>(columns: impl IntoIterator<Item = &'a ColumnMap>) -> String {
    columns.into_iter().map(|column| quote::identifier(&column.target)).collect::<Vec<_>>().join(", ")
}

/// New rows. On CockroachDB, too, an INSERT and never an UPSERT: a key that is there already is a contradiction to be
/// heard of, and an UPSERT would write over it.
fn insert(table: &Table, input: &mut Input) -> String {
    let map = &table.route.map;
    let values: Vec<String> =
        map.columns.iter().enumerate().map(|(index, column)| input.cast(format!("c{index}"), column)).collect();
    let overriding = if table.dialect.is_cockroach() { "" } else { "OVERRIDING SYSTEM VALUE " };
    format!(
        "INSERT INTO {} ({}) {overriding}SELECT {} FROM {} RETURNING 1",
        quote::table(&map.target),
        target_names(&map.columns),
        values.join(", "),
        input.rows()
    )
}

fn delete(table: &Table, input: &mut Input) -> String {
    let condition = input.key_condition(table);
    format!("DELETE FROM {} AS t USING {} WHERE {condition} RETURNING 1", only(table), input.rows())
}

fn update(table: &Table, mut input: Input, set: &ColumnSet, rekey: bool) -> String {
    let map = &table.route.map;
    let condition = input.key_condition(table);
    let is_set = |index: &usize| set.contains(*index) || (rekey && map.key.contains(index));
    let assignments: Vec<String> = (0..map.columns.len())
        .filter(is_set)
        .map(|index| {
            let column = &map.columns[index];
            format!("{} = {}", quote::identifier(&column.target), input.cast(format!("c{index}"), column))
        })
        .collect();
    let done = format!(
        "UPDATE {} AS t SET {} FROM {} WHERE {condition} RETURNING 1",
        only(table),
        assignments.join(", "),
        input.rows()
    );
    input.checked(&done)
}

/// An update that sets nothing: a row that is not there must be noticed all the same.
fn probe(table: &Table, mut input: Input) -> String {
    let condition = input.key_condition(table);
    let count = check(table.dialect, &format!("count(*) = {}", input.rows_param()));
    format!("SELECT {count} FROM {} AS t, {} WHERE {condition}", only(table), input.rows())
}

/// Empties tables at once. ONLY goes before each of them: it does not carry over the comma.
pub(crate) fn truncate(targets: &[&Table]) -> String {
    format!("TRUNCATE {}", targets.iter().map(|table| only(table)).collect::<Vec<_>>().join(", "))
}

/// Empties a table row by row, which its references from other tables allow where they do not allow TRUNCATE.
pub(crate) fn delete_all(target: &Table) -> String {
    // A session of CockroachDB may refuse a DELETE without a condition (`sql_safe_updates`).
    let condition = if target.dialect.is_cockroach() { " WHERE true" } else { "" };
    format!("DELETE FROM {}{condition}", only(target))
}

/// The name of a target table, for what is said of a statement.
pub(crate) fn target(table: &Table) -> TableName {
    table.route.map.target.clone()
}
