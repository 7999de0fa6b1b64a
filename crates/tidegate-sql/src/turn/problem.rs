//! Problems of turns.

use tidegate_model::{MigrationName, Problem};
use tokio_postgres::Error;

use crate::server_error;

pub(super) fn failed(doing: &str) -> impl FnOnce(Error) -> Problem {
    let what = format!("the turn failed: {doing}");
    move |error| {
        let next = "see the reason; the same command goes on, or gives up with --abort";
        server_error::problem("TN001", what, error, next)
    }
}

pub(super) fn moved_on(name: &MigrationName, doing: &str, found: &str) -> Problem {
    Problem::definite(
        "TN002",
        format!("migration \"{name}\" has moved on: {doing} is out of date"),
        format!("the database says {found}"),
        format!("see where it stands: tidegate status --name {name}"),
    )
}

pub(super) fn contradiction(name: &MigrationName, why: String) -> Problem {
    Problem::definite(
        "TN003",
        format!("the two databases of migration \"{name}\" contradict each other"),
        why,
        "one of them was restored from a backup or changed by hand: do not write to either before it is known which \
         one has the newer data",
    )
}

pub(super) fn opened(name: &MigrationName) -> Problem {
    Problem::definite(
        "TN004",
        format!("the turn of migration \"{name}\" cannot be aborted any more"),
        "the other database has been opened",
        format!("finish it by the same command without --abort; to turn back: tidegate failback --name {name}"),
    )
}
