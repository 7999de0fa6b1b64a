//! Reading the errors of SQL sessions: may it be tried again, and what to tell the user.

use std::io::ErrorKind;

use tidegate_model::Class;
use tokio_postgres::error::DbError;

use crate::error::{QueryError, io_cause};

/// Returns what may be done about an error of a SQL session.
pub fn sql_error_class(error: &tokio_postgres::Error) -> Class {
    if let Some(state) = error.code() {
        return sqlstate_class(state.code());
    }
    if error.is_closed() {
        return Class::Transient;
    }
    match io_cause(error).map(std::io::Error::kind) {
        // Nonsense on the wire, or a parameter that cannot be encoded.
        None | Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => Class::Definite,
        Some(_) => Class::Transient,
    }
}

/// Tells whether the same statement may succeed later, on this connection or a new one.
pub fn is_transient(error: &tokio_postgres::Error) -> bool {
    sql_error_class(error) == Class::Transient
}

/// Returns what may be done about a server error with this SQLSTATE (manual, appendix A).
pub fn sqlstate_class(sqlstate: &str) -> Class {
    let transient = match sqlstate {
        // Serialization failure, deadlock, lock not available, and the server going down or coming up.
        "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57P05" => true,
        // CockroachDB: whether a statement or a COMMIT took effect is not known, which the checkpoint settles; and a
        // range or a node out of reach of the one that was asked.
        "40003" | "58C00" | "58C01" => true,
        // A transaction that was rolled back for a reason of its own (40002 and the like) is not.
        _ => ["08", "53"].iter().any(|class| sqlstate.starts_with(class)),
    };
    if transient { Class::Transient } else { Class::Definite }
}

/// Returns a one-line text of an error: message, detail and SQLSTATE of a server's, the causes otherwise.
///
/// Keeps row values out: details that print a whole row are left out, and so are the quoted parts of data exceptions.
pub fn describe_sql_error(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return describe_server_error(server);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The same for an error of a session of our own.
pub fn describe_query_error(error: &QueryError) -> String {
    match error {
        QueryError::Server(server) => describe_parts(&server.sqlstate, &server.message, server.detail.as_deref()),
        QueryError::Lost { .. } | QueryError::Protocol { .. } => error.to_string(),
    }
}

fn describe_server_error(error: &DbError) -> String {
    describe_parts(error.code().code(), error.message(), error.detail())
}

fn describe_parts(state: &str, message: &str, detail: Option<&str>) -> String {
    let is_data_exception = state.starts_with("22");
    let mut text = if is_data_exception { without_quoted(message) } else { message.to_owned() };
    // 23502, 23514 and 44000 print the failing row; 23505 and 23503 only its key.
    let prints_rows = is_data_exception || matches!(state, "23502" | "23514" | "44000");
    if let Some(detail) = detail.filter(|_| !prints_rows) {
        text = format!("{text} ({detail})");
    }
    format!("{} [SQLSTATE {state}]", text.replace('\n', " "))
}

fn without_quoted(message: &str) -> String {
    let mut parts = message.split('"');
    let mut text = parts.next().unwrap_or_default().to_owned();
    while parts.next().is_some() {
        text.push_str("\"...\"");
        text.push_str(parts.next().unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_transient() {
        for state in ["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "08006", "53300", "53100", "40003", "58C00"]
        {
            assert_eq!(sqlstate_class(state), Class::Transient, "{state}");
        }
        for state in ["23505", "28P01", "3D000", "42501", "57014", "57P04", "22012", "40002", "XX000", "58P01"] {
            assert_eq!(sqlstate_class(state), Class::Definite, "{state}");
        }
    }

    #[test]
    fn row_values_in_data_exceptions_are_masked() {
        let masked = without_quoted("value \"12345678901\" is out of range for type integer");
        assert_eq!(masked, "value \"...\" is out of range for type integer");
        assert_eq!(without_quoted("invalid input syntax for type json"), "invalid input syntax for type json");
    }
}
