//! Problems of sequences.

use tidegate_model::Problem;
use tokio_postgres::Error;

use super::Sequence;
use crate::server_error;

pub(super) fn failed(doing: &str) -> impl FnOnce(Error) -> Problem {
    let what = format!("sequences could not be moved on or compared: {doing}");
    move |error| {
        let next =
            "see the reason; the role needs SELECT on the sequences of the side that closes, UPDATE on the others";
        server_error::problem("SQ001", what, error, next)
    }
}

pub(super) fn no_room(source: &Sequence, target: &Sequence, next: i64) -> Problem {
    Problem::definite(
        "SQ002",
        format!("sequence \"{}\" has no room for the values that are next", target.name),
        format!("\"{}\" goes on at {next}, this one goes from {} to {}", source.name, target.min, target.max),
        format!(
            "give it the same bounds: ALTER SEQUENCE {} MINVALUE .. MAXVALUE ..",
            crate::quote::table(&target.name)
        ),
    )
}

pub(super) fn other_direction(source: &Sequence, target: &Sequence) -> Problem {
    Problem::definite(
        "SQ003",
        format!("sequence \"{}\" counts in the other direction", target.name),
        format!("its increment is {}, that of \"{}\" {}", target.increment, source.name, source.increment),
        format!(
            "give it the same: ALTER SEQUENCE {} INCREMENT {}",
            crate::quote::table(&target.name),
            source.increment
        ),
    )
}
