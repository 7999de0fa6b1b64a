//! What can go wrong while reading tables.

use tidegate_connect::{describe_sql_error, sql_error_class};
use tidegate_model::{Class, MigrationName, Problem, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::snapshot::View;
use crate::problem::{is_past_gc, is_transient};
use crate::{gc, statement};

const TABLE_CHANGED: &str = "CP002";
const TABLE_UNREADABLE: &str = "CP004";
/// The coordinator of the copy broke the agreement.
const MISUSED: &str = "CR040";

/// A table or a part of it that could not be read.
pub(super) fn reading(view: &View, table: &TableName, error: Error) -> Problem {
    if is_past_gc(&error) {
        return gc::passed(&view.name, view.at, &error).caused_by(error);
    }
    if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].iter().any(|state| error.code() == Some(state)) {
        let difference = format!("as of the start point: {}", describe_sql_error(&error));
        return changed(&view.name, table, &difference).caused_by(error);
    }
    let passing = match error.code() {
        Some(code) => is_transient(code.code()),
        None => sql_error_class(&error) == Class::Transient,
    };
    Problem {
        class: if passing { Class::Transient } else { Class::Definite },
        ..Problem::definite(
            TABLE_UNREADABLE,
            format!("table \"{table}\" of the source cannot be read"),
            describe_sql_error(&error),
            format!("see the reason; the role needs: GRANT SELECT ON TABLE {}", statement::table(table)),
        )
    }
    .caused_by(error)
}

/// A table whose columns are not those that were planned.
pub(super) fn changed(name: &MigrationName, table: &TableName, difference: &str) -> Problem {
    Problem::definite(
        TABLE_CHANGED,
        format!("table \"{table}\" of the source changed while it was being copied"),
        difference,
        format!(
            "change the table at the target likewise, then copy everything from a new start point: \
             tidegate migrate --name {name} --recreate-slot"
        ),
    )
}

/// The other side asked for the binary form, which this source does not write.
pub(super) fn binary(table: &TableName) -> Problem {
    Problem::bug(
        MISUSED,
        format!("table \"{table}\" was to be read in binary form"),
        "rows of a CockroachDB are read as text",
    )
}

/// A chunk of a table that this snapshot has not cut.
pub(super) fn not_cut(table: &TableName) -> Problem {
    Problem::bug(
        MISUSED,
        format!("a chunk of table \"{table}\" was to be read before the table was cut"),
        "its number means something only under the snapshot that cut it",
    )
}
