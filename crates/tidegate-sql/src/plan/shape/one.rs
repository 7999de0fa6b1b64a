//! Statements about one of the rows that equal a given one.

use tidegate_model::ColumnMap;

use super::cast::{is_exact, type_of};
use super::{ColumnSet, check, checked, only};
use crate::dialect::Dialect;
use crate::plan::table::Table;
use crate::quote;

/// Single cells of a statement about one row, numbering parameters as they are added.
pub(super) struct Cells {
    dialect: Dialect,
    count: usize,
}

impl Cells {
    pub(super) fn new(table: &Table) -> Self {
        Cells { dialect: table.dialect, count: 0 }
    }

    pub(super) fn cast(&mut self, column: &ColumnMap) -> String {
        self.count += 1;
        let text = if self.dialect.is_cockroach() { "STRING" } else { "text" };
        format!("${}::{text}::{}", self.count, type_of(self.dialect, column))
    }

    /// The place of one row that equals the given one in every column. Of a table with a key, the row that alone has
    /// the given key is the one, whatever its other columns: a target of another scale or precision keeps other texts.
    fn one_row(&mut self, table: &Table, nulls: &ColumnSet) -> String {
        let map = &table.route.map;
        let target = only(table);
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
            if !column.comparable || !is_exact(column) {
                rest.push(same_text(self.dialect, &name, &value));
            }
        }
        let (key, rest) = (key.join(" AND "), rest.join(" AND "));
        let condition = match (key.as_str(), rest.as_str()) {
            ("", all) | (all, "") => all.to_owned(),
            (key, rest) => {
                format!("{key} AND ({rest} OR 1 = (SELECT count(*) FROM {target} AS t WHERE {key}))")
            }
        };
        let place = match self.dialect {
            Dialect::Postgres => "ctid",
            // A table without a key has this hidden one.
            Dialect::Cockroach => "\"rowid\"",
        };
        format!("{place} = (SELECT t.{place} FROM {target} AS t WHERE {condition} LIMIT 1)")
    }
}

/// The condition that two values have one text, where `=` only finds candidates by an index: 1.0 = 1.00, but these are
/// two rows.
fn same_text(dialect: Dialect, a: &str, b: &str) -> String {
    match dialect {
        // `concat` gives the text that the type's output function makes, which a cast to text does not (boolean,
        // character(n)). It takes over the collation of its argument, by which different texts may be equal.
        Dialect::Postgres => format!(r#"concat({a}) COLLATE pg_catalog."C" = concat({b}) COLLATE pg_catalog."C""#),
        Dialect::Cockroach => format!("{a}::STRING = {b}::STRING"),
    }
}

pub(super) fn delete_one(table: &Table, nulls: &ColumnSet) -> String {
    let place = Cells::new(table).one_row(table, nulls);
    checked(table.dialect, &format!("DELETE FROM {} WHERE {place} RETURNING 1", only(table)), "1")
}

pub(super) fn update_one(table: &Table, nulls: &ColumnSet, set: &ColumnSet) -> String {
    let mut cells = Cells::new(table);
    let place = cells.one_row(table, nulls);
    let columns = &table.route.map.columns;
    let assignments: Vec<String> = (0..columns.len())
        .filter(|index| set.contains(*index))
        .map(|index| format!("{} = {}", quote::identifier(&columns[index].target), cells.cast(&columns[index])))
        .collect();
    let target = only(table);
    if assignments.is_empty() {
        return format!("SELECT {} FROM {target} WHERE {place}", check(table.dialect, "count(*) = 1"));
    }
    let done = format!("UPDATE {target} SET {} WHERE {place} RETURNING 1", assignments.join(", "));
    checked(table.dialect, &done, "1")
}
