//! Errors as a CockroachDB reports them.

use std::fmt;

/// An error for the client: what an ErrorResponse carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE; CockroachDB's own `XXUUU` marks errors without one.
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Name of the constraint, where one was broken.
    pub constraint: Option<String>,
}

impl SqlError {
    pub fn new(code: &str, message: impl Into<String>) -> SqlError {
        SqlError { code: code.to_owned(), message: message.into(), detail: None, hint: None, constraint: None }
    }

    /// An error that CockroachDB raises without a code.
    pub fn uncoded(message: impl Into<String>) -> SqlError {
        SqlError::new("XXUUU", message)
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for SqlError {}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> SqlError {
        match error.as_db_error() {
            Some(db) => SqlError {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
                hint: db.hint().map(str::to_owned),
                constraint: db.constraint().map(str::to_owned),
            },
            None => SqlError::new("08006", format!("the stand-in lost its backing server: {error}")),
        }
    }
}
