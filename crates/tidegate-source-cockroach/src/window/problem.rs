//! What can be wrong with the rows of a feed among each other, as the user reads it.

use tidegate_model::{Problem, SourceTable};

use super::Entry;
use crate::message::shown;

/// Two versions of one row at one time.
pub(super) fn contradiction(table: &SourceTable, entry: &Entry) -> Problem {
    Problem::definite(
        "CR106",
        format!(
            "changefeed sent two different versions of one row: table \"{table}\", key {}, at {}",
            shown(&entry.key),
            entry.at
        ),
        "a row has one version for each timestamp, so one of the two is not what the source committed",
        format!("copy the table again: --recopy {table}; if it happens again, report it with the server's version"),
    )
}

/// A table that changed without the window being told.
pub(super) fn two_descriptions(table: &SourceTable) -> Problem {
    Problem::bug(
        "CR107",
        format!("rows of table \"{table}\" came under two descriptions of it"),
        "a description holds for the whole life of a stream",
    )
}
