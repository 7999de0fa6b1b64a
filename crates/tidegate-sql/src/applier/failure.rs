//! Why a batch was not written, and what follows from it.

use tidegate_model::{Class, Problem};
use tokio_postgres::Error;

use super::exchange::Step;
use crate::server_error;

#[derive(Debug)]
pub(super) enum Failure {
    /// The target refused a statement: the batch goes to source order, which finds the row.
    Refused(Error),
    /// The checkpoint row was not where the batch begins: another transaction of ours, whose answer was lost, moved
    /// it, or another owner took the stream.
    Overtaken,
    /// It may succeed later.
    Interrupted(String),
    /// Nothing helps.
    Final(Problem),
}

impl Failure {
    pub(super) fn of(step: Step, error: Error) -> Self {
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
