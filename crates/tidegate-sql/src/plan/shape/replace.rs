//! Rows taken out and put back changed, in one statement.

use super::{ColumnSet, Input, only};
use crate::plan::table::Table;
use crate::quote;

/// Columns named in one call of `jsonb_build_object`: a function takes at most 100 arguments.
const FIELDS_TOGETHER_MAX: usize = 40;

/// Takes the rows out and puts them back. A constraint that is not deferrable is checked row by row, so nothing may be
/// put back before all are out: the join with `everyone` needs the count of `gone`, and so all of it.
/// `jsonb_populate_record` changes columns inside the whole old row, whatever other columns the target has; values that
/// are not sent come from the old row. A target with generated columns refuses this statement: single changes decide
/// then.
///
/// CockroachDB allows no two mutations of one table in a statement. There keys that were taken stay taken while changes
/// are folded, so that nothing moves in circles.
pub(super) fn replace(table: &Table, mut input: Input, set: &ColumnSet, rekey: bool) -> String {
    let map = &table.route.map;
    let target = quote::table(&map.target);
    let condition = input.key_condition(table);
    let mut fields = Vec::new();
    let is_set = |index: &usize| set.contains(*index) || (rekey && map.key.contains(index));
    for index in (0..map.columns.len()).filter(is_set) {
        let name = format!("c{index}");
        fields.push((quote::literal(&map.columns[index].target), name.clone()));
        input.names.push(name);
    }
    let taken: Vec<String> = fields.iter().map(|(_, name)| format!("v.{name}")).collect();
    let build = |some: &[(String, String)]| {
        let pairs: Vec<String> = some.iter().map(|(column, name)| format!("{column}, gone.{name}")).collect();
        format!("jsonb_build_object({})", pairs.join(", "))
    };
    let changed: Vec<String> = fields.chunks(FIELDS_TOGETHER_MAX).map(build).collect();
    let rows = input.rows_param();
    format!(
        "WITH gone AS (DELETE FROM {} AS t USING {} WHERE {condition} RETURNING ROW(t.*)::{target} AS kept, {}), \
         done AS (INSERT INTO {target} OVERRIDING SYSTEM VALUE SELECT moved.* FROM gone \
         CROSS JOIN (SELECT count(*) AS rows FROM gone) AS everyone \
         CROSS JOIN LATERAL jsonb_populate_record(gone.kept, {}) AS moved \
         WHERE everyone.rows = {rows} RETURNING 1) \
         SELECT 1 / (count(*) = {rows})::int FROM done",
        only(table),
        input.rows(),
        taken.join(", "),
        changed.join(" || ")
    )
}
