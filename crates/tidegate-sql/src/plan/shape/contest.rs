//! Asking for the row that a change is about.

use tidegate_model::ColumnMap;

use super::one::Cells;
use super::only;
use crate::dialect::Dialect;
use crate::plan::table::Table;
use crate::quote;

/// Reads and locks the row of a key. Whether it is a given one is judged by the target, by the meaning of values: what
/// it keeps need not have the text that the source knows.
pub(super) fn contest(table: &Table, compare: bool) -> String {
    let mut cells = Cells::new(table);
    let place: Vec<String> = table
        .key_columns()
        .map(|column| format!("t.{} = {}", quote::identifier(&column.target), cells.cast(column)))
        .collect();
    let columns = table.route.map.columns.iter();
    let same = match compare {
        true => columns.map(|column| same(table.dialect, column, &mut cells)).collect::<Vec<_>>().join(" AND "),
        false => "false".to_owned(),
    };
    let when = if table.dialect.is_cockroach() { ", t.crdb_internal_mvcc_timestamp::STRING" } else { "" };
    format!("SELECT {same}{when} FROM {} AS t WHERE {} FOR UPDATE", only(table), place.join(" AND "))
}

fn same(dialect: Dialect, column: &ColumnMap, cells: &mut Cells) -> String {
    let (name, value) = (format!("t.{}", quote::identifier(&column.target)), cells.cast(column));
    if column.target_type.eq_ignore_ascii_case("json") && !dialect.is_cockroach() {
        return format!("{name}::jsonb IS NOT DISTINCT FROM {value}::jsonb");
    }
    // The `=` of a type outside pg_catalog may lie outside too, where a session without search path finds none.
    if column.comparable && !column.target_type.contains('.') {
        return format!("{name} IS NOT DISTINCT FROM {value}");
    }
    let text = if dialect.is_cockroach() { "STRING" } else { "text" };
    format!("{name}::{text} IS NOT DISTINCT FROM {value}::{text}")
}
