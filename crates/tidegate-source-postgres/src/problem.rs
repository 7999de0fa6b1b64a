//! Errors of the server, as problems.

use tidegate_connect::{QueryError, describe_sql_error, sql_error_class, sqlstate_class};
use tidegate_model::{Class, Problem};

const REFUSED: &str = "PG001";
const CONNECTION_LOST: &str = "PG002";
const UNEXPECTED_ANSWER: &str = "PG003";

/// SQLSTATE of a slot that has a reader.
pub(crate) const OBJECT_IN_USE: &str = "55006";

/// Something the server is asked for, named so that a failure says what failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    doing: &'static str,
}

impl Asked {
    pub(crate) fn new(doing: &'static str) -> Self {
        Asked { doing }
    }

    pub(crate) fn sql(self, error: tokio_postgres::Error) -> Problem {
        sql(self.doing, error)
    }

    pub(crate) fn replication(self, error: QueryError) -> Problem {
        replication(self.doing, error)
    }

    /// The server answered something that cannot be.
    pub(crate) fn unexpected(self, answer: &str) -> Problem {
        Problem::bug(UNEXPECTED_ANSWER, format!("{} failed", self.doing), format!("the server answered {answer}"))
    }
}

/// A failure of an SQL session.
pub(crate) fn sql(doing: &str, error: tokio_postgres::Error) -> Problem {
    let message = describe_sql_error(&error);
    let problem = match error.code() {
        Some(code) => refused(doing, code.code(), &message),
        None if sql_error_class(&error) == Class::Transient => lost(doing, &message),
        None => Problem::bug(UNEXPECTED_ANSWER, format!("{doing} failed"), message),
    };
    problem.caused_by(error)
}

/// A failure of a walsender session.
pub(crate) fn replication(doing: &str, error: QueryError) -> Problem {
    let message = error.to_string();
    let problem = match &error {
        QueryError::Server(said) => refused(doing, &said.sqlstate, &message),
        QueryError::Lost { .. } => lost(doing, &message),
        QueryError::Protocol { .. } => Problem::bug(UNEXPECTED_ANSWER, format!("{doing} failed"), message),
    };
    problem.caused_by(error)
}

/// Returns whether the same may succeed later: the server is starting, stopping, full, or somebody else is in the way.
pub(crate) fn is_transient(sqlstate: &str) -> bool {
    sqlstate_class(sqlstate) == Class::Transient || sqlstate == OBJECT_IN_USE
}

fn refused(doing: &str, sqlstate: &str, message: &str) -> Problem {
    Problem {
        class: if is_transient(sqlstate) { Class::Transient } else { Class::Definite },
        ..Problem::definite(
            REFUSED,
            format!("{doing} failed at the source"),
            format!("the server said: {message}"),
            "see the server's log around this time, correct the cause, and start again",
        )
    }
}

fn lost(doing: &str, message: &str) -> Problem {
    Problem::transient(
        CONNECTION_LOST,
        format!("the connection to the source was lost while {doing}"),
        message,
        "if this does not pass by itself, look at the server and the network between",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        for transient in ["08006", "40001", "53300", "57P01", "57P03", "55006"] {
            assert!(is_transient(transient), "{transient}");
        }
        for definite in ["42501", "42P01", "58P01", "55000", "28000", "XX000", ""] {
            assert!(!is_transient(definite), "{definite}");
        }
    }
}
