//! Why a slot cannot be made or used.

use tidegate_connect::QueryError;
use tidegate_model::{MigrationName, Problem};

use super::SlotRow;
use super::row::{NOT_PGOUTPUT, OTHER_DATABASE, TWO_PHASE};
use crate::problem;

pub(crate) const IN_USE: &str = "PG018";
const EXISTS: &str = "PG019";
const CREATION_REFUSED: &str = "PG030";
const NO_SLOT_FREE: &str = "PG031";
const NOT_LOGICAL: &str = "PG032";
const CREATION_ABORTED: &str = "PG033";
const WALSENDER_LEFT: &str = "PG034";

pub(super) fn other_database(name: &MigrationName, slot: &str, row: &SlotRow, database: &str) -> Problem {
    let of = row.database.as_deref().unwrap_or_default();
    Problem::definite(
        OTHER_DATABASE,
        format!("replication slot \"{slot}\" belongs to database \"{of}\", not to \"{database}\""),
        format!(
            "slots are named for the whole cluster, and a migration named \"{name}\" (or somebody else's slot) is \
             there already"
        ),
        format!("give this migration another --name, or point --source at database \"{of}\""),
    )
}

pub(super) fn not_pgoutput(slot: &str, row: &SlotRow) -> Problem {
    let kind = match &row.plugin {
        Some(plugin) => format!("it is a logical slot of the plugin \"{plugin}\""),
        None => "it is a physical slot".to_owned(),
    };
    Problem::definite(
        NOT_PGOUTPUT,
        format!("replication slot \"{slot}\" is not one of Tidegate's"),
        format!("{kind}, where one of pgoutput is needed"),
        format!("give the migration another --name, or drop the slot if nobody needs it: {}", drop_sql(slot)),
    )
}

pub(super) fn two_phase(name: &MigrationName, slot: &str) -> Problem {
    Problem::definite(
        TWO_PHASE,
        format!("replication slot \"{slot}\" was made with two_phase"),
        "on such a slot a prepared transaction that was acknowledged never comes again, so a restart could lose it",
        crate::history::recreate(name),
    )
}

/// Transient: its user may let go.
pub(crate) fn in_use(slot: &str, by: &str) -> Problem {
    Problem::transient(
        IN_USE,
        format!("replication slot \"{slot}\" is in use by somebody else"),
        format!("{by}; a slot has one reader at a time"),
        "end that reader if nobody needs it: SELECT pg_terminate_backend(<pid>)",
    )
}

pub(super) fn creation_aborted(slot: &str) -> Problem {
    Problem::transient(
        CREATION_ABORTED,
        format!("creation of replication slot \"{slot}\" was given up"),
        "it was cancelled while the server waited for older transactions to end; nothing was left behind",
        "start again when they have ended",
    )
}

pub(super) fn walsender_left(pid: i32, why: &str) -> Problem {
    Problem::definite(
        WALSENDER_LEFT,
        format!("the server process {pid}, a walsender of this migration, could not be ended"),
        why.to_owned(),
        format!("as a role that may, run: SELECT pg_terminate_backend({pid})"),
    )
}

/// Says why `CREATE_REPLICATION_SLOT` failed.
pub(super) fn creation_failed(slot: &str, error: QueryError) -> Problem {
    let what = format!("replication slot \"{slot}\" could not be made");
    let message = error.to_string();
    let problem = match error.sqlstate() {
        Some("42710") => Problem::definite(
            EXISTS,
            format!("replication slot \"{slot}\" exists already"),
            "a migration of this name is or was there, and its point in the history is not known here",
            format!("give the migration another --name, or drop the slot if nobody needs it: {}", drop_sql(slot)),
        ),
        Some("42501") => Problem::definite(
            CREATION_REFUSED,
            what,
            format!("the role may not: {message}"),
            "ALTER ROLE <role> REPLICATION (managed services have a role to grant instead, such as rds_replication)",
        ),
        Some("53400") => Problem::definite(
            NO_SLOT_FREE,
            what,
            format!("all slots of the server are taken: {message}"),
            "raise max_replication_slots and restart the server, or drop a slot that nobody needs",
        ),
        Some("55000") => Problem::definite(
            NOT_LOGICAL,
            what,
            message,
            "ALTER SYSTEM SET wal_level = logical, then restart the server",
        ),
        _ => return problem::replication("making the replication slot", error),
    };
    problem.caused_by(error)
}

fn drop_sql(slot: &str) -> String {
    format!("SELECT pg_drop_replication_slot('{}')", slot.replace('\'', "''"))
}
