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
