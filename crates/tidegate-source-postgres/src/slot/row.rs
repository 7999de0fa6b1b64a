//! A slot as `pg_replication_slots` shows it.

use postgres_protocol::escape::escape_literal;
use tidegate_model::{Lsn, MigrationName, Problem};

use super::refusal;
use crate::ServerVersion;

pub(crate) const OTHER_DATABASE: &str = "PG011";
pub(crate) const NOT_PGOUTPUT: &str = "PG014";
pub(crate) const TWO_PHASE: &str = "PG015";

/// A row of `pg_replication_slots`. Columns that the server does not have yet are at their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotRow {
    /// Its output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database it decodes; `None` for a physical slot.
    pub database: Option<String>,
    /// Whether it ends with its session.
    pub temporary: bool,
    /// The walsender that uses it now.
    pub active_pid: Option<i32>,
    /// The oldest WAL it keeps.
    pub restart_lsn: Option<Lsn>,
    /// Everything before it was acknowledged. `None`: it is still being made.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Whether it sends prepared transactions at PREPARE.
    pub two_phase: bool,
    /// From 16 on: whether recovery removed rows it needed.
    pub conflicting: bool,
    /// From 17 on: why the server made it useless.
    pub invalidation_reason: Option<String>,
    /// From 17 on: whether it is (or was, before a promotion) the copy of a primary's slot.
    pub synced: bool,
}

impl SlotRow {
    /// Returns the query for the slot `slot`, for a server of this version.
    pub(crate) fn sql(version: ServerVersion, slot: &str) -> String {
        let from = |major, column| if version.major() >= major { column } else { "NULL" };
        format!(
            "SELECT plugin, database, temporary, active_pid, restart_lsn, confirmed_flush_lsn, wal_status, two_phase, \
             {}, {}, {} FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            from(16, "conflicting"),
            from(17, "invalidation_reason"),
            from(17, "synced"),
            escape_literal(slot)
        )
    }

    /// Reads the row of that query; `None` if it does not have its shape.
    pub(crate) fn from_cells(cells: &[Option<String>]) -> Option<SlotRow> {
        let [
            plugin,
            database,
            temporary,
            active_pid,
            restart_lsn,
            confirmed_flush_lsn,
            wal_status,
            two_phase,
            conflicting,
            invalidation_reason,
            synced,
        ] = cells
        else {
            return None;
        };
        let is_true = |cell: &Option<String>| cell.as_deref() == Some("t");
        Some(SlotRow {
            plugin: plugin.clone(),
            database: database.clone(),
            temporary: is_true(temporary),
            active_pid: parse(active_pid)?,
            restart_lsn: parse(restart_lsn)?,
            confirmed_flush_lsn: parse(confirmed_flush_lsn)?,
            wal_status: wal_status.clone(),
            two_phase: is_true(two_phase),
            conflicting: is_true(conflicting),
            invalidation_reason: invalidation_reason.clone(),
            synced: is_true(synced),
        })
    }

    /// Returns whether the server has removed what the slot needs. `unreserved` is not lost: its WAL is still there.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some() || self.conflicting
    }

    /// Refuses a slot that this migration cannot use.
    pub(crate) fn is_ours_to_use(&self, name: &MigrationName, slot: &str, database: &str) -> Result<(), Problem> {
        self.is_ours_to_drop(name, slot, database)?;
        if self.two_phase { Err(refusal::two_phase(name, slot)) } else { Ok(()) }
    }

    /// Refuses a slot that this migration cannot have made.
    pub(super) fn is_ours_to_drop(&self, name: &MigrationName, slot: &str, database: &str) -> Result<(), Problem> {
        if self.database.as_deref().is_some_and(|of| of != database) {
            return Err(refusal::other_database(name, slot, self, database));
        }
        if self.database.is_none() || self.plugin.as_deref() != Some("pgoutput") {
            return Err(refusal::not_pgoutput(slot, self));
        }
        Ok(())
    }
}

/// Reads a cell that may be NULL; the outer `None` says that it cannot be read.
fn parse<T: std::str::FromStr>(cell: &Option<String>) -> Option<Option<T>> {
    match cell {
        None => Some(None),
        Some(text) => text.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_a_server_does_not_have_are_not_asked_for() {
        for (version, conflicting, synced) in
            [(140_000, false, false), (150_000, false, false), (160_000, true, false), (170_000, true, true)]
        {
            let sql = SlotRow::sql(ServerVersion(version), "it's");
            assert_eq!(sql.contains("conflicting"), conflicting, "{version}");
            assert_eq!(sql.contains("synced"), synced, "{version}");
            assert_eq!(sql.contains("invalidation_reason"), synced, "{version}");
            assert!(sql.ends_with("slot_name = 'it''s'"), "{sql}");
        }
    }

    #[test]
    fn a_row_is_read_cell_by_cell() {
        let cells = ["pgoutput", "shop", "f", "42", "0/10", "0/20", "extended", "f", "", "", ""]
            .map(|cell| (!cell.is_empty()).then(|| cell.to_owned()));
        let row = SlotRow::from_cells(&cells).unwrap();
        assert_eq!((row.active_pid, row.confirmed_flush_lsn), (Some(42), Some(Lsn(0x20))));
        assert!(!row.is_lost() && !row.two_phase && !row.synced);
        assert_eq!(SlotRow::from_cells(&cells[1..]), None);
    }
}
