//! The shapes of statements and their SQL text. Every text is self-checking: it raises 22012 (division by zero) at the
//! server unless it affected as many rows as planned, so that a COMMIT can be sent behind it unanswered.
//!
//! Values arrive as arrays of text and are cast per column to the target's type. `SELECT 1 / (count(*) = $n)::int`
//! cannot be skipped: it is the statement's only output, and a data-modifying WITH always runs to its end (PostgreSQL
//! manual, 7.8.4 Data-Modifying Statements in WITH).

use std::fmt::Write;

use tidegate_model::{ColumnMap, TableName};

use super::table::Table;
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
    /// Moves keys round in circles, which no order of updates can do. Parameters: the old key's columns, the new key's
    /// columns, rows.
    Rotate,
    /// Removes one of the rows that equal a given one; with a key, the only row that has it need not equal. `nulls` are
    /// the columns that are NULL in it. Parameters: the other columns, each one cell.
    DeleteOne { nulls: ColumnSet },
    /// Changes a row found likewise. Parameters: as above, then the cells of `set`.
    UpdateOne { nulls: ColumnSet, set: ColumnSet },
}

impl Shape {
    /// Writes the SQL text.
    pub fn sql(&self, table: &Table) -> String {
        match self {
            Shape::Insert => insert(table),
            Shape::Delete => delete(table),
            Shape::Update { set, rekey: false } if set.is_empty() => probe(table),
            Shape::Update { set, rekey } => update(table, set, *rekey),
            Shape::Rotate => rotate(table),
            Shape::DeleteOne { nulls } => delete_one(table, nulls),
            Shape::UpdateOne { nulls, set } => update_one(table, nulls, set),
        }
    }
}

/// The rows of a statement: `unnest($1::text[], ...) AS v(...)`, numbering parameters as columns are added.
#[derive(Default)]
struct Input {
    names: Vec<String>,
}

impl Input {
    /// Adds a column and returns its value, cast to the target's type.
    fn cast(&mut self, name: String, column: &ColumnMap) -> String {
        let value = format!("v.{name}::{}", column.target_type);
        self.names.push(name);
        value
    }

    fn rows(&self) -> String {
        let arrays: Vec<String> = (1..=self.names.len()).map(|n| format!("${n}::text[]")).collect();
        format!("unnest({}) AS v({})", arrays.join(", "), self.names.join(", "))
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
        checked(done, &format!("${}::int8", self.names.len() + 1))
    }
}

/// Wraps a data-modifying statement that ends in `RETURNING 1` into the check of its row count.
fn checked(done: &str, rows: &str) -> String {
    format!("WITH done AS ({done}) SELECT 1 / (count(*) = {rows})::int FROM done")
}

fn target_names<'a>(columns: impl IntoIterator<Item = &'a ColumnMap>) -> String {
    columns.into_iter().map(|column| quote::identifier(&column.target)).collect::<Vec<_>>().join(", ")
}

fn insert(table: &Table) -> String {
    let map = &table.route.map;
    let mut input = Input::default();
    let values: Vec<String> =
        map.columns.iter().enumerate().map(|(index, column)| input.cast(format!("c{index}"), column)).collect();
    let done = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} RETURNING 1",
        quote::table(&map.target),
        target_names(&map.columns),
        values.join(", "),
        input.rows()
    );
    input.checked(&done)
}

fn delete(table: &Table) -> String {
    let mut input = Input::default();
    let condition = input.key_condition(table);
    let done = format!(
        "DELETE FROM ONLY {} AS t USING {} WHERE {condition} RETURNING 1",
        quote::table(&table.route.map.target),
        input.rows()
    );
    input.checked(&done)
}

fn update(table: &Table, set: &ColumnSet, rekey: bool) -> String {
    let map = &table.route.map;
    let mut input = Input::default();
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
        "UPDATE ONLY {} AS t SET {} FROM {} WHERE {condition} RETURNING 1",
        quote::table(&map.target),
        assignments.join(", "),
        input.rows()
    );
    input.checked(&done)
}

/// An update that sets nothing: a row that is not there must be noticed all the same.
fn probe(table: &Table) -> String {
    let mut input = Input::default();
    let condition = input.key_condition(table);
    format!(
        "SELECT 1 / (count(*) = ${}::int8)::int FROM ONLY {} AS t, {} WHERE {condition}",
        input.names.len() + 1,
        quote::table(&table.route.map.target),
        input.rows()
    )
}

/// Takes the rows out and puts them back under their new keys. A key that is not deferrable is checked row by row, so
/// nothing may be put back before all are out: the join with `everyone` needs the count of `gone`, and so all of it.
/// `jsonb_populate_record` changes the key inside the whole old row, whatever other columns the target has; TOASTed
/// values come from the old row. A target with generated columns refuses this statement: source order decides then.
fn rotate(table: &Table) -> String {
    let target = quote::table(&table.route.map.target);
    let mut input = Input::default();
    let condition = input.key_condition(table);
    let mut fields = Vec::new();
    for (place, column) in table.key_columns().enumerate() {
        input.names.push(format!("n{place}"));
        fields.push(format!("{}, gone.n{place}", quote::literal(&column.target)));
    }
    let arrived: Vec<String> = (0..fields.len()).map(|place| format!("v.n{place}")).collect();
    let rows = format!("${}::int8", input.names.len() + 1);
    let mut sql = String::new();
    write!(
        sql,
        "WITH gone AS (DELETE FROM ONLY {target} AS t USING {} WHERE {condition} \
         RETURNING ROW(t.*)::{target} AS kept, {}), \
         done AS (INSERT INTO {target} OVERRIDING SYSTEM VALUE SELECT moved.* FROM gone \
         CROSS JOIN (SELECT count(*) AS rows FROM gone) AS everyone \
         CROSS JOIN LATERAL jsonb_populate_record(gone.kept, jsonb_build_object({})) AS moved \
         WHERE everyone.rows = {rows} RETURNING 1) \
         SELECT 1 / (count(*) = {rows})::int FROM done",
        input.rows(),
        arrived.join(", "),
        fields.join(", ")
    )
    .expect("writing to a string cannot fail");
    sql
}

/// Types whose `=` holds only between values with one text.
const EXACT_TYPES: [&str; 11] = [
    "smallint",
    "integer",
    "bigint",
    "oid",
    "boolean",
    "uuid",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
];

/// Single cells of a statement about one row, numbering parameters as they are added.
#[derive(Default)]
struct Cells {
    count: usize,
}

impl Cells {
    fn cast(&mut self, column: &ColumnMap) -> String {
        self.count += 1;
        format!("${}::text::{}", self.count, column.target_type)
    }

    /// The place of one row that equals the given one in every column. Of a table with a key, the row that alone has
    /// the given key is the one, whatever its other columns: a target of another scale or precision keeps other texts.
    fn one_row(&mut self, table: &Table, nulls: &ColumnSet) -> String {
        let map = &table.route.map;
        let target = quote::table(&map.target);
        let (mut key, mut rest) = (Vec::new(), Vec::new());
        for (index, column) in map.columns.iter().enumerate() {
            let name = format!("t.{}", quote::identifier(&column.target));
            if nulls.contains(index) {
                rest.push(format!("{name} IS NULL"));
                continue;
            }
            let value = self.cast(column);
            if map.key.contains(&index) {
                key.push(format!("{name} = {value}"));
            } else if column.comparable && !column.target_type.contains('.') {
                // The `=` of a type outside pg_catalog may lie outside too, where a session without search path finds none.
                rest.push(format!("{name} = {value}"));
            }
            if !column.comparable || !EXACT_TYPES.contains(&column.target_type.as_str()) {
                rest.push(same_text(&name, &value));
            }
        }
        let (key, rest) = (key.join(" AND "), rest.join(" AND "));
        let condition = match (key.as_str(), rest.as_str()) {
            ("", all) | (all, "") => all.to_owned(),
            (key, rest) => {
                format!("{key} AND ({rest} OR 1 = (SELECT count(*) FROM ONLY {target} AS t WHERE {key}))")
            }
        };
        format!("ctid = (SELECT t.ctid FROM ONLY {target} AS t WHERE {condition} LIMIT 1)")
    }
}

/// The condition that two values have one text, where `=` only finds candidates by an index: 1.0 = 1.00, but these are
/// two rows. `concat` gives the text that the type's output function makes, which a cast to text does not (boolean,
/// character(n)). It takes over the collation of its argument, by which different texts may be equal.
fn same_text(a: &str, b: &str) -> String {
    format!(r#"concat({a}) COLLATE pg_catalog."C" = concat({b}) COLLATE pg_catalog."C""#)
}

fn delete_one(table: &Table, nulls: &ColumnSet) -> String {
    let place = Cells::default().one_row(table, nulls);
    let target = quote::table(&table.route.map.target);
    checked(&format!("DELETE FROM ONLY {target} WHERE {place} RETURNING 1"), "1")
}

fn update_one(table: &Table, nulls: &ColumnSet, set: &ColumnSet) -> String {
    let mut cells = Cells::default();
    let place = cells.one_row(table, nulls);
    let columns = &table.route.map.columns;
    let assignments: Vec<String> = (0..columns.len())
        .filter(|index| set.contains(*index))
        .map(|index| format!("{} = {}", quote::identifier(&columns[index].target), cells.cast(&columns[index])))
        .collect();
    let target = quote::table(&table.route.map.target);
    if assignments.is_empty() {
        return format!("SELECT 1 / (count(*) = 1)::int FROM ONLY {target} WHERE {place}");
    }
    checked(&format!("UPDATE ONLY {target} SET {} WHERE {place} RETURNING 1", assignments.join(", ")), "1")
}

/// Empties tables at once. ONLY goes before each of them: it does not carry over the comma.
pub(crate) fn truncate(targets: &[TableName]) -> String {
    let tables: Vec<String> = targets.iter().map(|target| format!("ONLY {}", quote::table(target))).collect();
    format!("TRUNCATE {}", tables.join(", "))
}

/// Empties a table row by row, which its references from other tables allow where they do not allow TRUNCATE.
pub(crate) fn delete_all(target: &TableName) -> String {
    format!("DELETE FROM ONLY {}", quote::table(target))
}
