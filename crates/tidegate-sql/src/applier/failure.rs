//! Why a batch was not written, and what follows from it.

use tidegate_model::{Class, Problem};
use tokio_postgres::Error;

use super::exchange::Step;
use super::refusal;
use crate::dialect::Dialect;
use crate::server_error;

#[derive(Debug)]
pub(super) enum Failure {
    /// The target refused a statement: the batch goes to source order, which finds the row.
    Refused(Error),
    /// The checkpoint row was not where the batch begins: another transaction of ours, whose answer was lost, moved
    /// it, or another owner took the stream.
    Overtaken,
    /// It may succeed later. Also a commit of which nobody knows whether it happened: the checkpoint tells.
    Interrupted(String),
    /// Another transaction was in the way (40001): all of ours again.
    Conflict(String),
    /// More than the target takes at once: less of it.
    TooLarge(TooLarge),
    /// What was prepared is no longer what the server would prepare: all of it anew.
    Stale(String),
    /// A change was refused because of a key of another row. What it needs may lie elsewhere in its source transaction.
    Apart(Problem),
    /// Nothing helps.
    Final(Problem),
}

impl Failure {
    /// Says of changes that are only a piece of their source transaction that the rest may hold what they need.
    pub(super) fn of_piece(self, is_piece: bool) -> Self {
        match self {
            Failure::Final(problem) if is_piece && refusal::is_about_keys(&problem) => Failure::Apart(problem),
            failure => failure,
        }
    }
}

/// What was too large.
#[derive(Debug)]
pub(super) struct TooLarge {
    pub(super) reason: String,
    /// Whether a single row that is too large stays so: a limit of the server, not a lack of time or memory.
    pub(super) for_good: bool,
}

impl Failure {
    pub(super) fn of(dialect: Dialect, step: Step, error: Error) -> Self {
        if dialect.is_cockroach()
            && let Some(failure) = of_cockroach(step, &error)
        {
            return failure;
        }
        if server_error::is_transient(&error) {
            return Failure::Interrupted(server_error::describe(&error));
        }
        let raised = error.code().is_some_and(|state| state.code() == server_error::DIVISION_BY_ZERO);
        match step {
            Step::Checkpoint if raised => Failure::Overtaken,
            Step::Statement(_) | Step::Commit => Failure::Refused(error),
            Step::Begin | Step::Checkpoint | Step::Savepoint => Failure::Final(cannot_write(error)),
        }
    }
}

/// What follows from an answer that only CockroachDB gives, or that means something else there.
fn of_cockroach(step: Step, error: &Error) -> Option<Failure> {
    let server = error.as_db_error()?;
    let describe = || server_error::describe(error);
    match cockroach_answer(server.code().code(), server.message()) {
        Answer::Conflict => Some(Failure::Conflict(describe())),
        Answer::Unknown => Some(Failure::Interrupted(describe())),
        Answer::Stale => Some(Failure::Stale(describe())),
        Answer::TooLarge { for_good } => Some(Failure::TooLarge(TooLarge { reason: describe(), for_good })),
        Answer::HalfDone => Some(Failure::Final(refusal::half_done(describe()))),
        // Source order tells whether a row is the reason.
        Answer::Uncoded if matches!(step, Step::Statement(_)) => None,
        Answer::Uncoded => Some(Failure::Interrupted(describe())),
        Answer::Other => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Conflict,
    /// Whether it was committed is not known, or the transaction had failed before.
    Unknown,
    Stale,
    TooLarge {
        for_good: bool,
    },
    /// The rows are committed, and what was to be done to a table was not.
    HalfDone,
    /// It has no code.
    Uncoded,
    Other,
}

/// Reads an SQLSTATE and a message. Some of the limits have no code of their own, so that their texts must do (docs:
/// "Common Errors", "Known Limitations", "Transaction Retry Error Reference").
fn cockroach_answer(state: &str, message: &str) -> Answer {
    let says = |text: &str| message.contains(text);
    match state {
        _ if says("command is too large") => Answer::TooLarge { for_good: true },
        "08P01" if says("maximum allowed message size") || says("arguments to prepared statement") => {
            Answer::TooLarge { for_good: true }
        }
        // Out of memory; or too slow to be committed; or too many rows for the role (transaction_rows_written_err).
        "53200" => Answer::TooLarge { for_good: false },
        "57014" if says("timeout") => Answer::TooLarge { for_good: false },
        _ if says("transaction deadline exceeded") || says("which is above the limit") => {
            Answer::TooLarge { for_good: false }
        }
        "40001" => Answer::Conflict,
        "40003" | "25P02" => Answer::Unknown,
        _ if says("restart transaction") => Answer::Conflict,
        _ if says("result is ambiguous") => Answer::Unknown,
        _ if says("cached plan must not change result type") => Answer::Stale,
        "XXA00" => Answer::HalfDone,
        server_error::UNCODED => Answer::Uncoded,
        _ => Answer::Other,
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem.class {
            Class::Transient => Failure::Interrupted(problem.why),
            Class::Definite | Class::Bug => Failure::Final(problem),
        }
    }
}

/// Makes the problem of a target that refuses what every transaction begins with.
fn cannot_write(error: Error) -> Problem {
    let next = "see the reason; what the role needs is listed by tidegate check";
    server_error::problem("AP052", "no transaction can be begun at the target", error, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_cockroach_are_told_apart() {
        let for_good = Answer::TooLarge { for_good: true };
        let for_now = Answer::TooLarge { for_good: false };
        for (state, message, answer) in [
            ("40001", "restart transaction: TransactionRetryWithProtoRefreshError: retry txn", Answer::Conflict),
            ("XXUUU", "restart transaction: TransactionAbortedError", Answer::Conflict),
            ("40001", "restart transaction: transaction deadline exceeded", for_now),
            ("40003", "result is ambiguous: context canceled", Answer::Unknown),
            (
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
                Answer::Unknown,
            ),
            ("08P01", "message size 18 MiB bigger than maximum allowed message size 16 MiB", for_good),
            ("08P01", "more than 65535 arguments to prepared statement: 70000", for_good),
            ("XXUUU", "command is too large: 70000000 bytes (max: 67108864)", for_good),
            ("53200", "memory budget exceeded", for_now),
            ("57014", "query execution canceled due to statement timeout", for_now),
            ("57014", "query execution canceled", Answer::Other),
            ("0A000", "cached plan must not change result type", Answer::Stale),
            (
                "XXA00",
                "transaction committed but schema change aborted with error: (23505): duplicate key value",
                Answer::HalfDone,
            ),
            ("XXUUU", "failed to send RPC: no live nodes", Answer::Uncoded),
            ("23505", "duplicate key value violates unique constraint \"t_pkey\"", Answer::Other),
        ] {
            assert_eq!(cockroach_answer(state, message), answer, "{state} {message}");
        }
    }
}
