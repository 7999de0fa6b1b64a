//! WAL that a slot keeps back at the source, and the bound on it.

use tidegate_connect::{Session, Settings};
use tidegate_model::{Lsn, MigrationName, Problem};

use crate::history::recreate;
use crate::problem::Asked;
use crate::slot;

const BUDGET_SPENT_STOPPED: &str = "PG050";
const BUDGET_SPENT_DROPPED: &str = "PG051";

/// The share of `max_slot_wal_keep_size` at which Tidegate acts on its own: past all of it the server removes the WAL
/// without asking.
const DEFAULT_PERCENT: u64 = 80;

/// How much WAL a slot keeps back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedWal {
    /// The end of the server's WAL.
    pub end: Lsn,
    /// The oldest WAL that the slot keeps. `None` for a slot that keeps nothing any more.
    pub restart: Option<Lsn>,
    /// Up to where the slot was acknowledged.
    pub confirmed: Option<Lsn>,
    /// `max_slot_wal_keep_size` in bytes; `None` where it is not set.
    pub keep_size_bytes_max: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub status: Option<String>,
}

impl RetainedWal {
    /// Returns the bytes of WAL that are on the server's disk because of the slot.
    pub fn bytes(&self) -> u64 {
        self.restart.map_or(0, |restart| self.end.0.saturating_sub(restart.0))
    }

    /// Returns the bytes of WAL that were not acknowledged.
    pub fn unacknowledged_bytes(&self) -> u64 {
        self.confirmed.map_or(0, |confirmed| self.end.0.saturating_sub(confirmed.0))
    }
}

/// What is done when the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenSpent {
    /// Stop; the slot stays.
    #[default]
    Stop,
    /// Drop the slot, so that the source goes on, whatever becomes of the migration.
    DropSlot,
}

/// How much WAL may be kept back, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WalBudget {
    /// In bytes. `None`: 80 % of `max_slot_wal_keep_size` where that is set, otherwise no bound (the free disk of a
    /// server cannot be seen through SQL).
    pub bytes_max: Option<u64>,
    /// What is done at the bound.
    pub when_spent: WhenSpent,
}

/// How much of the budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WalLevel {
    /// Less than half, or there is no bound.
    #[default]
    Normal,
    /// Half or more.
    Half,
    /// All.
    Spent,
}

impl WalBudget {
    /// Returns the bound that holds at a server with this `max_slot_wal_keep_size`.
    pub fn bytes(&self, keep_size_bytes_max: Option<u64>) -> Option<u64> {
        match (self.bytes_max, keep_size_bytes_max) {
            // A budget past what the server keeps would never be reached: the slot would be lost before.
            (Some(chosen), Some(kept)) => Some(chosen.min(kept)),
            (Some(chosen), None) => Some(chosen),
            (None, Some(kept)) => Some(kept / 100 * DEFAULT_PERCENT + kept % 100 * DEFAULT_PERCENT / 100),
            (None, None) => None,
        }
    }

    /// Returns how much of the budget `retained` uses.
    pub fn level(&self, retained: &RetainedWal) -> WalLevel {
        match self.bytes(retained.keep_size_bytes_max) {
            Some(budget) if retained.bytes() >= budget => WalLevel::Spent,
            Some(budget) if retained.bytes() >= budget.div_ceil(2) => WalLevel::Half,
            _ => WalLevel::Normal,
        }
    }
}

/// Measures what the slot keeps back; `None` if there is no such slot.
pub async fn measure(session: &Session, slot: &str) -> Result<Option<RetainedWal>, Problem> {
    let asked = Asked::new("measuring the WAL that the slot keeps");
    let sql = "
        SELECT (CASE WHEN pg_is_in_recovery()
                     THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                     ELSE pg_current_wal_lsn() END)::text,
               s.restart_lsn::text, s.confirmed_flush_lsn::text, s.wal_status,
               (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
          FROM pg_replication_slots s WHERE s.slot_name = $1";
    let row = session.query_opt(sql, &[&slot]).await.map_err(|error| asked.sql(error))?;
    let Some(row) = row else { return Ok(None) };
    let lsn = |index: usize| -> Result<Option<Lsn>, Problem> {
        let text: Option<String> = row.get(index);
        text.map(|text| text.parse().map_err(|_| asked.unexpected("an LSN that cannot be read"))).transpose()
    };
    let kept_mb: Option<i64> = row.get(4);
    Ok(Some(RetainedWal {
        end: lsn(0)?.ok_or_else(|| asked.unexpected("no end of the WAL"))?,
        restart: lsn(1)?,
        confirmed: lsn(2)?,
        // -1: no bound.
        keep_size_bytes_max: kept_mb.and_then(|mb| u64::try_from(mb).ok()).map(|mb| mb << 20),
        status: row.get(3),
    }))
}

/// Does what is configured for a spent budget and says so. Nothing of ours may be using the slot any more.
pub async fn spend(
    settings: &Settings,
    name: &MigrationName,
    slot: &str,
    when_spent: WhenSpent,
    retained: &RetainedWal,
    budget: u64,
) -> Problem {
    let problem = |dropped| spent(name, slot, retained, budget, dropped);
    if when_spent == WhenSpent::Stop {
        return problem(false);
    }
    let dropped = async {
        let session = Session::connect(settings, &name.application_name("wal-budget")).await?;
        slot::drop(&session, name, slot).await
    };
    match dropped.await {
        Ok(_) => problem(true),
        Err(error) => problem(false).caused_by(error),
    }
}

/// Says that the budget is spent and the stream has stopped; `dropped`: the slot is gone, too.
fn spent(name: &MigrationName, slot: &str, retained: &RetainedWal, budget: u64, dropped: bool) -> Problem {
    let used = retained.bytes();
    if dropped {
        return Problem::definite(
            BUDGET_SPENT_DROPPED,
            format!("replication slot \"{slot}\" kept {used} bytes of WAL, and was dropped as configured"),
            format!("the WAL budget is {budget} bytes, and the target did not follow; the source goes on without us"),
            recreate(name),
        );
    }
    Problem::definite(
        BUDGET_SPENT_STOPPED,
        format!("replication slot \"{slot}\" keeps {used} bytes of WAL, which is the whole WAL budget"),
        format!("the budget is {budget} bytes, and the target did not follow; the slot is still there and keeps WAL"),
        format!(
            "remove what holds the target up and start again with a larger --wal-budget; or free the source's disk \
             with SELECT pg_drop_replication_slot('{slot}'), and later {}",
            recreate(name)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn retained(bytes: u64, kept: Option<u64>) -> RetainedWal {
        RetainedWal {
            end: Lsn(100 * GIB + bytes),
            restart: Some(Lsn(100 * GIB)),
            confirmed: Some(Lsn(100 * GIB)),
            keep_size_bytes_max: kept,
            status: None,
        }
    }

    #[test]
    fn the_budget_is_the_smaller_of_what_was_chosen_and_what_the_server_keeps() {
        let of = |chosen, kept| WalBudget { bytes_max: chosen, when_spent: WhenSpent::Stop }.bytes(kept);
        assert_eq!(of(None, None), None);
        assert_eq!(of(None, Some(10 * GIB)), Some(8 * GIB));
        assert_eq!(of(Some(3), None), Some(3));
        assert_eq!(of(Some(9 * GIB), Some(10 * GIB)), Some(9 * GIB));
        assert_eq!(of(Some(11 * GIB), Some(10 * GIB)), Some(10 * GIB));
        assert_eq!(of(None, Some(u64::MAX >> 1)), Some((u64::MAX >> 1) / 100 * 80 + (u64::MAX >> 1) % 100 * 80 / 100));
    }

    #[test]
    fn half_warns_and_all_stops() {
        let budget = WalBudget { bytes_max: Some(1_001), when_spent: WhenSpent::Stop };
        for (bytes, level) in [
            (0, WalLevel::Normal),
            (500, WalLevel::Normal),
            (501, WalLevel::Half),
            (1_000, WalLevel::Half),
            (1_001, WalLevel::Spent),
            (u64::MAX >> 1, WalLevel::Spent),
        ] {
            assert_eq!(budget.level(&retained(bytes, None)), level, "{bytes}");
        }
        assert_eq!(WalBudget::default().level(&retained(u64::MAX >> 1, None)), WalLevel::Normal);
    }

    #[test]
    fn a_slot_that_keeps_nothing_uses_nothing() {
        assert_eq!(RetainedWal { restart: None, ..retained(5, None) }.bytes(), 0);
        assert_eq!(RetainedWal { end: Lsn(1), ..retained(5, None) }.bytes(), 0);
    }
}
