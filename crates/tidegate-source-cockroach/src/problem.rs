//! Errors of the server, as problems.

use tidegate_connect::{describe_sql_error, sql_error_class, sqlstate_class};
use tidegate_model::{Class, MigrationName, Problem};
use tokio_postgres::Error;

const REFUSED: &str = "CR001";
const CONNECTION_LOST: &str = "CR002";
const UNEXPECTED_ANSWER: &str = "CR003";

/// Questions about single tables that are under way together, on one session.
pub(crate) const QUESTIONS_AT_ONCE: usize = 16;

/// What CockroachDB says, in whatever error, when a time is asked for whose history is gone.
const PAST_GC: &str = "must be after replica GC threshold";

/// Something the server is asked for, named so that a failure says what failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    doing: &'static str,
}

impl Asked {
    pub(crate) fn new(doing: &'static str) -> Self {
        Asked { doing }
    }

    pub(crate) fn sql(self, error: Error) -> Problem {
        sql(self.doing, error)
    }

    /// The server answered something that cannot be.
    pub(crate) fn unexpected(self, answer: &str) -> Problem {
        Problem::bug(UNEXPECTED_ANSWER, format!("{} failed", self.doing), format!("the server answered {answer}"))
    }
}

/// A failure of an SQL session.
pub(crate) fn sql(doing: &str, error: Error) -> Problem {
    let message = describe_sql_error(&error);
    let problem = match error.code() {
        Some(code) => refused(doing, code.code(), &message),
        None if sql_error_class(&error) == Class::Transient => lost(doing, &message),
        None => Problem::bug(UNEXPECTED_ANSWER, format!("{doing} failed"), message),
    };
    problem.caused_by(error)
}

/// Returns whether the same may succeed later. Beside what passes by itself everywhere: a statement that somebody
/// cancelled (57014), an answer that was lost (40003), and errors to which CockroachDB gives no code (XXUUU), which are
/// most often those of one node or one moment.
pub(crate) fn is_transient(sqlstate: &str) -> bool {
    sqlstate_class(sqlstate) == Class::Transient || matches!(sqlstate, "57014" | "40003" | "XXUUU")
}

/// Returns whether the error says that the history of the time asked for is gone.
pub(crate) fn is_past_gc(error: &Error) -> bool {
    error.as_db_error().is_some_and(|server| gc_threshold(server.message()).is_some())
}

/// Returns the time up to which history is gone, as the server writes it, if a message says so; empty where it does not
/// say which time.
pub(crate) fn gc_threshold(message: &str) -> Option<&str> {
    let (_, after) = message.split_once(PAST_GC)?;
    Some(after.split_whitespace().next().unwrap_or_default())
}

/// Returns the command that begins a stream anew.
pub(crate) fn recreate(name: &MigrationName) -> String {
    format!("copy the tables again from a new start point: tidegate migrate --name {name} --recreate-slot")
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
        "if this does not pass by itself, look at the cluster and the network between",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        for transient in ["08006", "40001", "40P01", "53300", "57P01", "57014", "XXUUU"] {
            assert!(is_transient(transient), "{transient}");
        }
        for definite in ["42501", "42P01", "42601", "22023", "55000", "28000", "XX000", ""] {
            assert!(!is_transient(definite), "{definite}");
        }
    }

    #[test]
    fn the_threshold_is_found_in_every_wording() {
        let running =
            "batch timestamp 1595866288.020022200,0 must be after replica GC threshold 1595868416.278231500,0";
        assert_eq!(gc_threshold(running), Some("1595868416.278231500,0"));
        let created =
            format!("could not create changefeed: cursor 1.0 is older than the GC threshold 2: {running} (r3: /T)");
        assert_eq!(gc_threshold(&created), Some("1595868416.278231500,0"));
        assert_eq!(gc_threshold("must be after replica GC threshold"), Some(""));
        assert_eq!(gc_threshold("restart transaction"), None);
    }
}
