//! What a user reads when something stops, or when `check` finds something.

use std::error::Error;
use std::fmt;

use serde::Serialize;

/// What may be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Retry with back-off: the same call may succeed later.
    Transient,
    /// A fact about data or setup that retrying cannot change.
    Definite,
    /// An invariant of ours broke: stop.
    Bug,
}

/// An error as it crosses the boundary of a crate: what, why, what next, with a stable code. Holds no row values beyond
/// keys and no secrets.
///
/// ```text
/// error[PG012]: replication slot "tidegate_orders" can no longer resume from 0/16B3748
///   why:  the server removed that WAL (wal_status = lost, max_slot_wal_keep_size = 10GB)
///   next: recreate the slot and copy the tables again: tidegate migrate --name orders --recreate-slot
/// ```
#[derive(Debug)]
pub struct Problem {
    /// Stable, two letters and three digits; has a page in `docs/errors/`.
    pub code: &'static str,
    /// Whether to retry.
    pub class: Class,
    /// What happened: lower case, no full stop, says what kind of object it is, names quoted.
    pub what: String,
    /// The cause.
    pub why: String,
    /// The next step of the user, if possible as a command.
    pub next: String,
    /// The error below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// Makes a definite problem: the usual kind.
    pub fn definite(
        code: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Problem { code, class: Class::Definite, what: what.into(), why: why.into(), next: next.into(), source: None }
    }

    /// Makes a problem that a retry may solve.
    pub fn transient(
        code: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Problem { class: Class::Transient, ..Problem::definite(code, what, why, next) }
    }

    /// Makes a problem that says that an invariant of Tidegate broke.
    pub fn bug(code: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        let next =
            "this is a defect of Tidegate: report it with the log; the target is consistent up to its checkpoint";
        Problem { class: Class::Bug, ..Problem::definite(code, what, why, next) }
    }

    /// Attaches the error below, for the log.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}\n  why:  {}\n  next: {}", self.code, self.what, self.why, self.next)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// How much a finding of `check` matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Notice,
    /// Works, but something is given up.
    Warning,
    /// `migrate` would fail or lose something: it refuses to start.
    Critical,
    /// The question could not be answered. Never a pass: `check` exits 2.
    Unknown,
}

/// One finding of `check`, with its fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code with a page in `docs/errors/`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: `source`, `target`, or a table's name.
    pub subject: String,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// The fix, as SQL or a setting where one exists.
    pub fix: String,
}
