//! What can go wrong while tables are read.

use tidegate_connect::{describe_sql_error, sql_error_class};
use tidegate_model::{Class, Problem, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

const UNREADABLE: &str = "VF001";
const SNAPSHOT_GONE: &str = "VF002";
const TABLE_CHANGED: &str = "VF003";
const READER_ENDED: &str = "VF004";
const REWRITTEN: &str = "VF005";

/// What CockroachDB says, in whatever error, when a time is asked for whose history is gone.
const PAST_GC: &str = "must be after replica GC threshold";

/// A session that could not enter the snapshot.
pub(crate) fn snapshot(error: Error) -> Problem {
    if error.as_db_error().is_none() && sql_error_class(&error) == Class::Transient {
        return Problem::transient(
            SNAPSHOT_GONE,
            "the connection was lost while a session entered the snapshot of a comparison",
            describe_sql_error(&error),
            "compare again; it is tried again at a new fence",
        )
        .caused_by(error);
    }
    gone(&describe_sql_error(&error)).caused_by(error)
}

fn gone(why: &str) -> Problem {
    Problem::transient(
        SNAPSHOT_GONE,
        "the snapshot of a comparison is not there any more",
        why,
        "compare again; it is tried again at a new fence",
    )
}

/// A table that could not be read.
pub(crate) fn reading(table: &TableName, error: Error) -> Problem {
    let why = describe_sql_error(&error);
    if error.as_db_error().is_some_and(|server| server.message().contains(PAST_GC)) {
        return gone(&why).caused_by(error);
    }
    if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].iter().any(|state| error.code() == Some(state)) {
        return changed(table, why).caused_by(error);
    }
    let passing = match error.code() {
        // Cancelled by somebody, and what CockroachDB gives no code: most often a matter of one node or one moment.
        Some(code) if matches!(code.code(), "57014" | "XXUUU") => true,
        _ => sql_error_class(&error) == Class::Transient,
    };
    let class = if passing { Class::Transient } else { Class::Definite };
    let what = format!("table \"{table}\" cannot be read for a comparison");
    let next = format!("see the reason; the role needs: GRANT SELECT ON TABLE {table}");
    Problem { class, ..Problem::definite(UNREADABLE, what, why, next) }.caused_by(error)
}

/// A table that is not what the migration knows.
pub(crate) fn changed(table: &TableName, why: impl Into<String>) -> Problem {
    Problem::definite(
        TABLE_CHANGED,
        format!("table \"{table}\" is not what it was when the migration began"),
        why,
        "change both sides alike and restart the migration, then compare again",
    )
}

/// A table whose rows moved to another file after the snapshot was taken.
pub(crate) fn rewritten(table: &TableName) -> Problem {
    Problem::transient(
        REWRITTEN,
        format!("table \"{table}\" was emptied or rewritten while it was compared"),
        "its file is not the one that the snapshot knows (TRUNCATE, VACUUM FULL, CLUSTER, ALTER TABLE)",
        "compare again; it is tried again at a new fence",
    )
}

/// A task that reads a side ended without an answer.
pub(crate) fn reader_ended(why: &str) -> Problem {
    Problem::bug(READER_ENDED, "reading a table for a comparison ended without an answer", why)
}
