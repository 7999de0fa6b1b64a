//! What can go wrong while tables are written.

use tidegate_connect::{QueryError, describe_query_error};
use tidegate_model::{Class, Problem, TableName};
use tokio_postgres::Error;

use crate::dialect::Dialect;
use crate::server_error;

const NOT_EMPTY: &str = "CP001";
const REFUSED: &str = "CP003";
const TARGET: &str = "CP006";
const FOREIGN_KEY_IN_THE_WAY: &str = "CP007";
const NOT_RESTORED: &str = "CP008";
const FOREIGN_KEY_BROKEN: &str = "CP009";
const BROKEN: &str = "CP010";
const CANNOT_BE_EMPTIED: &str = "CP011";
const NOT_PLANNED: &str = "CP012";
const NO_SUCH_TARGET: &str = "CP013";

/// A statement of the copy that failed at the target.
pub(super) fn target(doing: &str) -> impl FnOnce(Error) -> Problem {
    let what = format!("the copy failed at the target: {doing}");
    move |error| server_error::problem(TARGET, what, error, "see the reason, correct it and start again")
}

/// A statement of a loading session that failed at the target.
pub(super) fn not_loaded(doing: &str) -> impl FnOnce(QueryError) -> Problem {
    let what = format!("the copy failed at the target: {doing}");
    move |error| of_loading(TARGET, what, error, "see the reason, correct it and start again")
}

/// Rows that the target did not take from a loading session.
pub(super) fn load_refused(table: &TableName, chunk: u64, error: QueryError) -> Problem {
    let what = format!("target table \"{table}\" refused rows of chunk {chunk}");
    of_loading(REFUSED, what, error, "change the target's table so that it takes the rows, and start again")
}

fn of_loading(code: &'static str, what: String, error: QueryError, next: &str) -> Problem {
    // An operator may have cancelled a statement of ours.
    let transient = error.is_transient() || error.sqlstate() == Some("57014");
    let class = if transient { Class::Transient } else { Class::Definite };
    Problem { class, ..Problem::definite(code, what, describe_query_error(&error), next) }.caused_by(error)
}

/// A target table that holds rows of someone else.
pub(super) fn not_empty(table: &TableName) -> Problem {
    Problem::definite(
        NOT_EMPTY,
        format!("target table \"{table}\" holds rows already"),
        "they were not written by this migration, so they are neither overwritten nor removed",
        "empty the table if its rows are not needed, or keep them as the copy: \
         tidegate migrate --no-copy --start-at POSITION",
    )
}

/// Rows that the target did not take.
pub(super) fn rows_refused(table: &TableName, chunk: u64, error: Error) -> Problem {
    let place = error.as_db_error().and_then(|db| db.where_()).map(place).unwrap_or_default();
    let what = format!("target table \"{table}\" refused rows of chunk {chunk}{place}");
    server_error::problem(REFUSED, what, error, "change the target's table so that it takes the rows, and start again")
}

/// `COPY t, line 5, column a: "value"`: the part without the value.
fn place(context: &str) -> String {
    let place = context.split(':').next().unwrap_or_default();
    if place.starts_with("COPY ") { format!(" ({place})") } else { String::new() }
}

/// A foreign key that would act on rows while tables are loaded.
pub(super) fn foreign_key_in_the_way(table: &TableName, name: &str, drop_sql: &str) -> Problem {
    Problem::definite(
        FOREIGN_KEY_IN_THE_WAY,
        format!("foreign key \"{name}\" of target table \"{table}\" stands in the way of the copy"),
        "the role may neither drop it nor load rows without it (session_replication_role)",
        format!("let the owner drop it until the copy has caught up: {drop_sql}"),
    )
}

/// An index, key or foreign key that could not be made again.
pub(super) fn not_restored(table: &str, definition: &str, error: Error) -> Problem {
    let what = format!("target table \"{table}\" did not get back what was taken away for the load");
    let next = format!("correct the cause and start again; Tidegate then runs: {definition}");
    server_error::problem(NOT_RESTORED, what, error, next)
}

/// Rows that break a foreign key of the target.
pub(super) fn foreign_key_broken(table: &str, name: &str, error: Error) -> Problem {
    let what = format!("rows of target table \"{table}\" break foreign key \"{name}\"");
    let next = "correct the rows at the source, or drop the key at the target (it is enforced for new rows already)";
    server_error::problem(FOREIGN_KEY_BROKEN, what, error, next)
}

/// State of the copy that cannot be.
pub(super) fn broken(table: &TableName, why: impl Into<String>) -> Problem {
    Problem::bug(BROKEN, format!("the record of the copy of table \"{table}\" is not what it should be"), why)
}

/// A table that was begun and cannot be emptied for another copy.
pub(super) fn cannot_be_emptied(table: &TableName, foreign_key: &str, dialect: Dialect) -> Problem {
    let refers = format!("foreign key \"{foreign_key}\" of a table outside the migration refers to it");
    let (why, next) = match dialect {
        Dialect::Postgres => (
            format!("{refers}, and the role may not switch it off (session_replication_role)"),
            "drop that foreign key, or: GRANT SET ON PARAMETER session_replication_role (PostgreSQL 15 and later)",
        ),
        Dialect::Cockroach => (refers, "drop that foreign key until the table is copied"),
    };
    let what = format!("target table \"{table}\" cannot be emptied to be copied again");
    Problem::definite(CANNOT_BE_EMPTIED, what, why, next)
}

/// A table that is not in the state.
pub(super) fn not_planned(table: &TableName) -> Problem {
    Problem::definite(
        NOT_PLANNED,
        format!("table \"{table}\" is not part of the migration"),
        "the state of the copy does not know it",
        "see the tables: tidegate status",
    )
}

/// A chunk that someone else is writing. What is there is read again, and gone on from.
pub(super) fn overtaken(table: &TableName, why: impl Into<String>) -> Problem {
    let what = format!("the copy of table \"{table}\" met another one");
    Problem::transient(TARGET, what, why, "nothing: what is there is looked at again")
}

/// A target table or column that is not there.
pub(super) fn no_such_target(table: &TableName, what: &str) -> Problem {
    Problem::definite(
        NO_SUCH_TARGET,
        format!("target table \"{table}\" cannot be loaded"),
        what.to_owned(),
        "create it at the target and start again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_bad_value_is_named_without_the_value() {
        assert_eq!(place("COPY t, line 5, column a: \"secret\""), " (COPY t, line 5, column a)");
        assert_eq!(place("PL/pgSQL function f() line 3"), "");
    }
}
