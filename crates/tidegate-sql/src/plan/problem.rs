//! What a user reads when changes cannot be planned.

use tidegate_model::{Position, Problem, SourceTable, TableMap};

use super::Single;

/// Says that the server did not find the row that `single`, an update or a delete at `position`, is about.
pub fn row_not_found(single: &Single, position: &Position) -> Problem {
    Problem::definite(
        "AP001",
        format!(
            "{} of a row that table \"{}\" does not have: {}, at {position}",
            single.operation, single.table, single.key
        ),
        "the target has lost this row or never had it: something other than the stream changes the target, or the \
         table was filled from another point of the source's history",
        format!(
            "find out what writes to the target, then copy the table again: tidegate migrate --recopy {}",
            single.source
        ),
    )
}

pub(crate) fn unknown_table(table: &SourceTable, position: &Position) -> Problem {
    Problem::definite(
        "AP002",
        format!("a change of table \"{table}\", which is not part of the migration, at {position}"),
        "the publication lists a table that was not there, or not selected, when the migration was planned",
        format!(
            "take it out of the publication (ALTER PUBLICATION ... DROP TABLE), or create the target's table and copy \
             it: tidegate migrate --recopy {table}"
        ),
    )
}

pub(crate) fn table_changed(mapped: &SourceTable, difference: &str, position: &Position) -> Problem {
    Problem::definite(
        "AP003",
        format!("table \"{mapped}\" changed at the source: {difference}, first seen at {position}"),
        "the source's table was altered after the migration had mapped it, and its new rows may not fit the target's",
        format!("change the target's table likewise, then copy it again: tidegate migrate --recopy {mapped}"),
    )
}

pub(crate) fn binary_cell(map: &TableMap, position: &Position) -> Problem {
    Problem::bug(
        "AP004",
        format!("a value of table \"{}\" arrived in binary form, at {position}", map.source),
        "the planner passes values on as text, and the source was asked for text",
    )
}

pub(crate) fn malformed_row(map: &TableMap, position: &Position, what: &str) -> Problem {
    Problem::bug(
        "AP005",
        format!("a change of table \"{}\" is malformed, at {position}", map.source),
        format!("{what}, which the source's protocol excludes"),
    )
}

pub(crate) fn truncate_contested(table: &SourceTable, position: &Position) -> Problem {
    Problem::definite(
        "AP072",
        format!("table \"{table}\" was emptied by TRUNCATE while both sides are open, at {position}"),
        "a TRUNCATE does not say which rows it removed, so that nobody can tell them from rows that the target's \
         applications wrote",
        "the target is the truth: stop the writers of the source and end the migration: tidegate finish --undrained",
    )
}

pub(crate) fn no_image_before(table: &SourceTable, position: &Position) -> Problem {
    Problem::definite(
        "AP073",
        format!("a change of table \"{table}\" does not say what the row was before, at {position}"),
        "while both sides are open that tells whether somebody else has changed the row",
        "start again: a feed then tells it; a PostgreSQL table must have had REPLICA IDENTITY FULL since before the turn: \
         where it has not, stop the writers of the source and end the migration: tidegate finish --undrained",
    )
}
