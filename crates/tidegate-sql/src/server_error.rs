//! What an error of the target means: whether to try again, and what may be said about it.

use tidegate_model::{Class, Problem};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// SQLSTATE of a division by zero: what a statement that checks itself raises when it did not affect as many rows as
/// planned.
pub(crate) const DIVISION_BY_ZERO: &str = "22012";

/// SQLSTATE of an error to which CockroachDB gives no code: most often one of a node or a moment. It may be about a row
/// all the same, so that a refused row is told with it.
pub(crate) const UNCODED: &str = "XXUUU";

/// Returns whether the same statement may succeed later. Beyond what is so in every session: an operator may cancel a
/// statement of ours, and a server becomes read only when another one is promoted.
pub(crate) fn is_transient(error: &Error) -> bool {
    let of_ours = [SqlState::QUERY_CANCELED, SqlState::READ_ONLY_SQL_TRANSACTION];
    tidegate_connect::is_transient(error) || error.code().is_some_and(|state| of_ours.contains(state))
}

/// Describes an error without row values, keys excepted.
pub(crate) fn describe(error: &Error) -> String {
    tidegate_connect::describe_sql_error(error)
}

/// Makes a problem of an error of the target that is not about a row: transient or definite by its SQLSTATE.
pub(crate) fn problem(code: &'static str, what: impl Into<String>, error: Error, next: impl Into<String>) -> Problem {
    let uncoded = error.code().is_some_and(|state| state.code() == UNCODED);
    let class = if uncoded || is_transient(&error) { Class::Transient } else { Class::Definite };
    Problem { class, ..Problem::definite(code, what, describe(&error), next) }.caused_by(error)
}
