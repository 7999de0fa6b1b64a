//! Problems of fences.

use tidegate_model::{MigrationName, Problem};
use tokio_postgres::Error;

use super::Blocker;
use crate::server_error;

pub(super) fn failed(doing: &str) -> impl FnOnce(Error) -> Problem {
    let what = format!("the fence failed: {doing}");
    move |error| {
        let next = "see the reason; the same command goes on, or gives up with --abort";
        server_error::problem("FN003", what, error, next)
    }
}

pub(super) fn too_late(blockers: &[Blocker]) -> Problem {
    let who = match blockers {
        [] => "a lock was not to be had, and who held it is not known".to_owned(),
        _ => blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    Problem::definite(
        "FN001",
        "the tables could not be locked in time",
        who,
        "end what is in the way, or wait until it has ended, and run the same command again, with a larger --budget if \
         need be",
    )
}

pub(super) fn given_up(name: &MigrationName, turn: &str) -> Problem {
    Problem::definite(
        "FN002",
        format!("the fence of migration \"{name}\" was given up for this turn"),
        format!("turn \"{turn}\" was aborted, or another turn has begun"),
        format!("see where it stands: tidegate status --name {name}"),
    )
}
