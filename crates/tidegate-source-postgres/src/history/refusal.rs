//! The refusals of a history that does not fit, each with its bounds and its repair.

use tidegate_model::{Class, Lsn, MigrationName, Position, Problem};

use super::{History, Observed};
use crate::slot::SlotRow;

pub(crate) const SLOT_MISSING: &str = "PG010";
pub(crate) const WAL_LOST: &str = "PG012";
pub(crate) const SLOT_AHEAD: &str = "PG013";
pub(crate) const SLOT_TEMPORARY: &str = "PG016";
pub(crate) const STANDBY_NOT_PROMOTED: &str = "PG017";
pub(crate) const ANOTHER_CLUSTER: &str = "PG020";
pub(crate) const ANOTHER_DATABASE: &str = "PG021";
pub(crate) const LOST_IN_PROMOTION: &str = "PG022";
pub(crate) const NOT_A_DESCENDANT: &str = "PG023";
pub(crate) const BEHIND: &str = "PG024";
const NOT_A_POSTGRES_POSITION: &str = "PG025";

/// Returns the command that begins a stream anew.
pub(crate) fn recreate(name: &MigrationName) -> String {
    format!("recreate the slot and copy the tables again: tidegate migrate --name {name} --recreate-slot")
}

pub(super) fn not_a_postgres_position(at: &Position) -> Problem {
    Problem::bug(
        NOT_A_POSTGRES_POSITION,
        format!("a PostgreSQL source was asked to go on from {at}"),
        "that is a position in another kind of history",
    )
}

pub(super) fn another_cluster(history: &History, observed: &Observed) -> Problem {
    Problem::definite(
        ANOTHER_CLUSTER,
        "the source is another PostgreSQL cluster than the one this migration began with",
        format!(
            "its system identifier is {}, the stored one is {}: positions of one mean nothing in the other",
            observed.system_identifier, history.system_identifier
        ),
        "point --source at the cluster of before, or begin another migration with another --name",
    )
}

pub(super) fn another_database(history: &History, observed: &Observed) -> Problem {
    Problem::definite(
        ANOTHER_DATABASE,
        format!("the source is database \"{}\", this migration began with \"{}\"", observed.database, history.database),
        "a slot decodes one database, so the stream would not be the one that the checkpoint belongs to",
        format!("point --source at database \"{}\", or begin another migration with another --name", history.database),
    )
}

pub(super) fn lost_in_promotion(
    name: &MigrationName,
    history: &History,
    left: Lsn,
    at: Lsn,
    observed: &Observed,
) -> Problem {
    Problem::definite(
        LOST_IN_PROMOTION,
        format!("the source has lost what this migration has already applied: from {left} to {at}"),
        format!(
            "the server is on timeline {}, which left timeline {} at {left}; the target holds commits up to {at}, \
             among them some that the promoted server never received",
            observed.timeline, history.timeline
        ),
        recreate(name),
    )
}

pub(super) fn not_a_descendant(name: &MigrationName, history: &History, at: Lsn, observed: &Observed) -> Problem {
    Problem::definite(
        NOT_A_DESCENDANT,
        format!(
            "timeline {} of the source does not descend from timeline {}, on which the checkpoint {at} lies",
            observed.timeline, history.timeline
        ),
        "the server was restored from before that timeline, or is a former primary that was left behind: \
         everything after its own last common point may differ",
        format!("point --source at the present primary, or {}", recreate(name)),
    )
}

pub(super) fn behind(name: &MigrationName, at: Lsn, observed: &Observed) -> Problem {
    Problem::definite(
        BEHIND,
        format!("the source has lost what this migration has already applied: from {} to {at}", observed.wal_end),
        format!(
            "its WAL ends at {} on timeline {}, before the checkpoint {at}: it was restored from an older state",
            observed.wal_end, observed.timeline
        ),
        recreate(name),
    )
}

pub(super) fn slot_missing(name: &MigrationName, history: &History, at: Lsn, observed: &Observed) -> Problem {
    let promoted = if observed.timeline == history.timeline {
        ""
    } else {
        "; the server was promoted since: slots are on a standby only when they are synchronised (FAILOVER, from \
         PostgreSQL 17 on)"
    };
    Problem::definite(
        SLOT_MISSING,
        format!("replication slot \"{}\" does not exist", history.slot),
        format!("it was dropped, so changes from {at} on are not kept for this migration{promoted}"),
        recreate(name),
    )
}

pub(super) fn slot_temporary(name: &MigrationName, history: &History, at: Lsn) -> Problem {
    Problem::definite(
        SLOT_TEMPORARY,
        format!("replication slot \"{}\" is temporary", history.slot),
        format!(
            "it ends with a session or a promotion, and with it the changes from {at} on; on a standby a slot stays \
             temporary until its synchronisation has caught up"
        ),
        recreate(name),
    )
}

/// Transient: a promotion under way makes it usable.
pub(super) fn standby_not_promoted(history: &History) -> Problem {
    Problem {
        class: Class::Transient,
        ..Problem::definite(
            STANDBY_NOT_PROMOTED,
            format!("replication slot \"{}\" cannot be used before this standby is promoted", history.slot),
            "the server is a standby, and its slot is the synchronised copy of the primary's",
            "point --source at the primary, or promote the standby",
        )
    }
}

pub(super) fn wal_lost(
    name: &MigrationName,
    history: &History,
    slot: &SlotRow,
    at: Lsn,
    observed: &Observed,
) -> Problem {
    let status = slot.wal_status.as_deref().unwrap_or("unknown");
    let reason =
        slot.invalidation_reason.as_deref().map(|r| format!(", invalidation_reason = {r}")).unwrap_or_default();
    Problem::definite(
        WAL_LOST,
        format!("replication slot \"{}\" can no longer resume from {at}", history.slot),
        format!(
            "the server invalidated it and removed what it kept: changes from {at} to {} are lost to it (wal_status = \
             {status}{reason}, max_slot_wal_keep_size = {})",
            observed.wal_end, observed.max_slot_wal_keep_size
        ),
        recreate(name),
    )
}

pub(super) fn slot_ahead(name: &MigrationName, history: &History, confirmed: Option<Lsn>, at: Lsn) -> Problem {
    let (what, why) = match confirmed {
        Some(confirmed) => (
            format!(
                "replication slot \"{}\" begins at {confirmed}, past the checkpoint {at}: the changes between are lost",
                history.slot
            ),
            "it was dropped and created again, or advanced by someone else; the server would skip them silently",
        ),
        None => (
            format!("replication slot \"{}\" has no position, so it cannot resume from {at}", history.slot),
            "its creation never came to an end",
        ),
    };
    Problem::definite(SLOT_AHEAD, what, why, recreate(name))
}
