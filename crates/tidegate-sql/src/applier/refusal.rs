//! What a user reads when the target refuses a change for good.

use tidegate_model::{Position, Problem};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::reading::TOGETHER;
use crate::plan::{self, Operation, Single};
use crate::server_error::{self, DIVISION_BY_ZERO};

/// Says which change the target refused, and why.
pub(super) fn change(single: &Single, position: &Position, error: Error) -> Problem {
    let finds_row = matches!(single.operation, Operation::Update | Operation::Delete);
    let what = format!(
        "{} of a row in table \"{}\" was refused by the target: {}, at {position}",
        single.operation, single.table, single.key
    );
    let why = server_error::describe(&error);
    let recopy = format!("copy the table again: tidegate migrate --recopy {}", single.source);
    let problem = match error.code() {
        Some(state) if state.code() == DIVISION_BY_ZERO && finds_row => plan::row_not_found(single, position),
        Some(state) if state.code() == DIVISION_BY_ZERO => Problem::definite(
            "AP054",
            what,
            "the statement did not affect exactly one row: a trigger or rule of the target changed what it does",
            "remove it until the migration has turned; tidegate check lists it",
        ),
        Some(state) if *state == SqlState::UNIQUE_VIOLATION || *state == SqlState::EXCLUSION_VIOLATION => {
            let next = format!(
                "find out what else writes to the target, or which constraint only the target has; remove the row that \
                 is in the way and start again, or {recopy}"
            );
            Problem::definite(UNIQUE, what, why, next)
        }
        Some(state) if *state == SqlState::FOREIGN_KEY_VIOLATION => {
            let next = format!(
                "the referenced row is missing at the target, or its table is not part of the migration: add it, or \
                 {recopy}; GRANT SET ON PARAMETER session_replication_role lets foreign keys rest while streaming"
            );
            Problem::definite(REFERENCE, what, why, next)
        }
        _ => Problem::definite(
            "AP057",
            what,
            why,
            "change the target so that it takes the row, and start again: the stream goes on at this transaction",
        ),
    };
    problem.caused_by(error)
}

const UNIQUE: &str = "AP055";
const REFERENCE: &str = "AP056";

/// Returns whether a change was refused because of the keys of other rows.
pub(super) fn is_about_keys(problem: &Problem) -> bool {
    [UNIQUE, REFERENCE].contains(&problem.code)
}

/// Returns whether the target refused something because of the keys of other rows.
pub(super) fn names_keys(error: &Error) -> bool {
    let about_keys = [SqlState::UNIQUE_VIOLATION, SqlState::EXCLUSION_VIOLATION, SqlState::FOREIGN_KEY_VIOLATION];
    error.code().is_some_and(|state| about_keys.contains(state))
}

/// Says that a piece of a source transaction was refused because of such keys.
pub(super) fn piece(error: Error) -> Problem {
    let what = "a piece of it was refused because of a key of another row";
    Problem::definite(UNIQUE, what, server_error::describe(&error), "see the reason").caused_by(error)
}

/// Says that changes of a source transaction need each other that are too far apart to be written together.
pub(super) fn too_far_apart(position: &Position, refused: Problem) -> Problem {
    Problem::definite(
        "AP068",
        format!(
            "changes of the large transaction at {position} depend on others of it that are more than {} MiB away: {}",
            TOGETHER.bytes >> 20,
            refused.what
        ),
        refused.why,
        "drop the constraint of the target that the reason names, start again, and make it anew once the stream is past \
         this transaction; or, at PostgreSQL, for a foreign key: GRANT SET ON PARAMETER session_replication_role",
    )
}

/// Says that a transaction was refused only when it was committed: by a deferred constraint.
pub(super) fn commit(position: &Position, error: Error) -> Problem {
    Problem::definite(
        "AP058",
        format!("the target refused to commit the transaction at {position}"),
        server_error::describe(&error),
        "a deferred constraint of the target does not hold: bring the target's rows in line with it, or make the \
         constraint like the source's, and start again",
    )
    .caused_by(error)
}

/// Says that CockroachDB has committed the rows and the checkpoint of a batch, and not what its TRUNCATE was to do.
pub(super) fn half_done(reason: String) -> Problem {
    Problem::definite(
        "AP067",
        "the target committed a batch without the TRUNCATE that belongs to it",
        reason,
        "the checkpoint is past it, so that starting again does not repeat the TRUNCATE: copy the tables that the source \
         emptied again (tidegate migrate --recopy TABLE), and choose --truncate-as delete, which is part of the transaction",
    )
}

/// Says that a change is larger than the target takes, though it went there alone.
pub(super) fn too_large(position: &Position, part: u64, reason: String) -> Problem {
    Problem::definite(
        "AP070",
        format!("change {} of the transaction at {position} is larger than the target takes", part + 1),
        reason,
        "make room at the target (sql.conn.max_read_buffer_message_size, kv.raft.command.max_size), or make the row \
         smaller at the source and copy its table again: tidegate migrate --recopy TABLE",
    )
}
