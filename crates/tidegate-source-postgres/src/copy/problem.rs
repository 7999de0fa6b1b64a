//! What can go wrong while reading tables.

use tidegate_connect::{describe_sql_error, sql_error_class};
use tidegate_model::{Class, MigrationName, Problem, SourceTable, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

const TABLE_CHANGED: &str = "CP002";
const TABLE_UNREADABLE: &str = "CP004";
const SNAPSHOT_LOST: &str = "CP005";

/// A snapshot that can no longer be used.
pub(super) fn snapshot(error: Error) -> Problem {
    let class = if is_passing(&error) || is_lost(&error) { Class::Transient } else { Class::Definite };
    Problem {
        class,
        ..Problem::definite(
            SNAPSHOT_LOST,
            "the snapshot of the copy cannot be used",
            describe_sql_error(&error),
            "nothing: tables that are not finished are read again under a new snapshot",
        )
    }
    .caused_by(error)
}

/// A snapshot ends with the transaction that exported it: "invalid snapshot identifier" (22023), "the source process is
/// not running anymore" (55000), or its file is gone (58P01).
fn is_lost(error: &Error) -> bool {
    let lost =
        [SqlState::INVALID_PARAMETER_VALUE, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, SqlState::UNDEFINED_FILE];
    error.code().is_some_and(|state| lost.contains(state) || *state == SqlState::UNDEFINED_OBJECT)
}

/// A table or a part of it that could not be read.
pub(super) fn reading(table: &TableName, error: Error) -> Problem {
    let class = if is_passing(&error) { Class::Transient } else { Class::Definite };
    Problem {
        class,
        ..Problem::definite(
            TABLE_UNREADABLE,
            format!("table \"{table}\" of the source cannot be read"),
            describe_sql_error(&error),
            format!("see the reason; the role needs: GRANT SELECT ON {table}"),
        )
    }
    .caused_by(error)
}

/// Cancelled by an operator, or a table that vanished under an open query: another attempt finds out more.
fn is_passing(error: &Error) -> bool {
    let vanished = error.as_db_error().is_some_and(|db| db.message().starts_with("could not open relation"));
    vanished || error.code() == Some(&SqlState::QUERY_CANCELED) || sql_error_class(error) == Class::Transient
}

/// A table whose columns are not those that were planned.
pub(super) fn changed(name: &MigrationName, table: &SourceTable, difference: &str) -> Problem {
    Problem::definite(
        TABLE_CHANGED,
        format!("table \"{table}\" of the source changed while it was being copied"),
        difference,
        format!(
            "change the table at the target likewise, then copy it again: \
             tidegate migrate --name {name} --recopy {table}"
        ),
    )
}
