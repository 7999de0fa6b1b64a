//! The refusals of a history that does not fit, each with its bounds and its repair.

use tidegate_connect::Server;
use tidegate_model::{Hlc, MigrationName, Position, Problem};

use super::History;
use crate::problem::recreate;

const NOT_COCKROACH: &str = "CR004";
const AHEAD: &str = "CR012";
const ANOTHER_CLUSTER: &str = "CR013";
const ANOTHER_DATABASE: &str = "CR014";
const NOT_A_COCKROACH_POSITION: &str = "CR015";

pub(super) fn not_cockroach(server: &Server) -> Problem {
    Problem::definite(
        NOT_COCKROACH,
        format!("the source is {server}, and a CockroachDB was expected"),
        "the stored migration, or its other direction, reads a CockroachDB",
        "point --source and --target at the databases of before",
    )
}

pub(super) fn not_a_cockroach_position(at: &Position) -> Problem {
    Problem::bug(
        NOT_A_COCKROACH_POSITION,
        format!("a CockroachDB source was asked to go on from {at}"),
        "that is a position in another kind of history",
    )
}

pub(super) fn another_cluster(stored: &str, found: &str) -> Problem {
    Problem::definite(
        ANOTHER_CLUSTER,
        "the source is another CockroachDB cluster than the one this migration began with",
        format!("its identifier is {found}, the stored one is {stored}: times of one mean nothing in the other"),
        "point at the cluster of before, or begin another migration with another --name",
    )
}

pub(super) fn another_database(history: &History, found: &str) -> Problem {
    Problem::definite(
        ANOTHER_DATABASE,
        format!("the source is database \"{found}\", this migration began with \"{}\"", history.database),
        "the tables of the stream are those of the other database",
        format!("point at database \"{}\", or begin another migration with another --name", history.database),
    )
}

pub(super) fn ahead(name: &MigrationName, at: &Position, now: Hlc) -> Problem {
    Problem::definite(
        AHEAD,
        format!("the source has lost what this migration has already applied: from {now} to {at}"),
        "the cluster's clock is before the checkpoint: it was restored from an older state, or is another cluster",
        format!("point at the cluster of before, or {}", recreate(name)),
    )
}
