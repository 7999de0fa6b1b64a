//! Whether a stream may go on at a server, decided from what was seen there.

use tidegate_model::{Lsn, MigrationName, Position, Problem};

use super::{History, refusal};
use crate::ServerVersion;
use crate::slot::SlotRow;

/// What a server says about itself and about the slot.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its version.
    pub version: ServerVersion,
    /// The identifier of its cluster.
    pub system_identifier: u64,
    /// The timeline it is on.
    pub timeline: u32,
    /// The end of its WAL, flushed or, on a standby, replayed.
    pub wal_end: Lsn,
    /// The database of the session.
    pub database: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Where its history left the timeline that was asked about; `None` if it is on that timeline or never was.
    pub left_at: Option<Lsn>,
    /// The slot of that name, in whatever database of the cluster.
    pub slot: Option<SlotRow>,
    /// `max_slot_wal_keep_size`, as `SHOW` gives it.
    pub max_slot_wal_keep_size: String,
    /// `wal_sender_timeout` in milliseconds; 0 for none.
    pub wal_sender_timeout_ms: u64,
}

/// Returns the history to store from now on, or the refusal: going on at this server from `at` would lose changes,
/// repeat them, or take those of something else. Nothing may be written before this has passed.
pub fn verdict(
    name: &MigrationName,
    history: &History,
    at: &Position,
    observed: &Observed,
) -> Result<History, Problem> {
    if observed.system_identifier != history.system_identifier {
        return Err(refusal::another_cluster(history, observed));
    }
    if observed.database != history.database {
        return Err(refusal::another_database(history, observed));
    }
    let at = needed_from(at)?;
    timeline_holds(name, history, at, observed)?;
    slot_resumes(name, history, at, observed)?;
    Ok(History { timeline: observed.timeline, ..history.clone() })
}

/// Returns the highest LSN that the slot may have left behind. After part of a transaction the whole of it must come
/// again: then its end is too far.
fn needed_from(at: &Position) -> Result<Lsn, Problem> {
    let lsn = at.lsn().ok_or_else(|| refusal::not_a_postgres_position(at))?;
    Ok(if at.part == 0 { lsn } else { Lsn(lsn.0.saturating_sub(1)) })
}

fn timeline_holds(name: &MigrationName, history: &History, at: Lsn, observed: &Observed) -> Result<(), Problem> {
    if observed.timeline != history.timeline {
        match observed.left_at {
            None => return Err(refusal::not_a_descendant(name, history, at, observed)),
            Some(left) if left < at => return Err(refusal::lost_in_promotion(name, history, left, at, observed)),
            Some(_) => {}
        }
    }
    // A standby may be behind for a moment; the slot's own position says the rest.
    if observed.wal_end < at && !observed.in_recovery {
        return Err(refusal::behind(name, at, observed));
    }
    Ok(())
}

fn slot_resumes(name: &MigrationName, history: &History, at: Lsn, observed: &Observed) -> Result<(), Problem> {
    let slot = observed.slot.as_ref().ok_or_else(|| refusal::slot_missing(name, history, at, observed))?;
    slot.is_ours_to_use(name, &history.slot, &observed.database)?;
    if slot.temporary {
        return Err(refusal::slot_temporary(name, history, at));
    }
    if slot.synced && observed.in_recovery {
        return Err(refusal::standby_not_promoted(history));
    }
    if slot.is_lost() {
        return Err(refusal::wal_lost(name, history, slot, at, observed));
    }
    match slot.confirmed_flush_lsn {
        Some(confirmed) if confirmed <= at => Ok(()),
        confirmed => Err(refusal::slot_ahead(name, history, confirmed, at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::refusal::*;
    use crate::slot::{NOT_PGOUTPUT, OTHER_DATABASE, TWO_PHASE};

    fn history() -> History {
        History {
            system_identifier: 7,
            database: "shop".to_owned(),
            timeline: 1,
            slot: "tidegate_orders".to_owned(),
            publication: "tidegate_orders".to_owned(),
            published: None,
        }
    }

    fn observed() -> Observed {
        Observed {
            version: ServerVersion(170_002),
            system_identifier: 7,
            timeline: 1,
            wal_end: Lsn(1_000),
            database: "shop".to_owned(),
            in_recovery: false,
            left_at: None,
            slot: Some(slot()),
            max_slot_wal_keep_size: "10GB".to_owned(),
            wal_sender_timeout_ms: 60_000,
        }
    }

    fn slot() -> SlotRow {
        SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            restart_lsn: Some(Lsn(400)),
            confirmed_flush_lsn: Some(Lsn(500)),
            wal_status: Some("reserved".to_owned()),
            ..SlotRow::default()
        }
    }

    fn with_slot(change: impl FnOnce(&mut SlotRow)) -> Observed {
        let mut row = slot();
        change(&mut row);
        Observed { slot: Some(row), ..observed() }
    }

    fn decide(observed: &Observed) -> Result<History, &'static str> {
        decide_at(&Position::postgres(Lsn(600)), observed)
    }

    fn decide_at(at: &Position, observed: &Observed) -> Result<History, &'static str> {
        let name = "orders".parse().unwrap();
        verdict(&name, &history(), at, observed).map_err(|problem| {
            assert!(!problem.why.is_empty() && !problem.next.is_empty());
            problem.code
        })
    }

    #[test]
    fn the_same_server_goes_on() {
        assert_eq!(decide(&observed()), Ok(history()));
    }

    #[test]
    fn each_way_to_another_history_has_its_own_refusal() {
        let slot_gone = Observed { slot: None, ..observed() };
        let cases = [
            (Observed { system_identifier: 8, ..observed() }, ANOTHER_CLUSTER),
            (Observed { database: "other".to_owned(), ..observed() }, ANOTHER_DATABASE),
            (Observed { timeline: 3, left_at: Some(Lsn(599)), ..observed() }, LOST_IN_PROMOTION),
            (Observed { timeline: 3, left_at: None, ..observed() }, NOT_A_DESCENDANT),
            (Observed { wal_end: Lsn(599), ..observed() }, BEHIND),
            (slot_gone, SLOT_MISSING),
            (with_slot(|slot| slot.database = Some("other".to_owned())), OTHER_DATABASE),
            (with_slot(|slot| slot.plugin = Some("wal2json".to_owned())), NOT_PGOUTPUT),
            (with_slot(|slot| (slot.plugin, slot.database) = (None, None)), NOT_PGOUTPUT),
            (with_slot(|slot| slot.two_phase = true), TWO_PHASE),
            (with_slot(|slot| slot.temporary = true), SLOT_TEMPORARY),
            (with_slot(|slot| slot.wal_status = Some("lost".to_owned())), WAL_LOST),
            (with_slot(|slot| slot.invalidation_reason = Some("rows_removed".to_owned())), WAL_LOST),
            (with_slot(|slot| slot.confirmed_flush_lsn = Some(Lsn(601))), SLOT_AHEAD),
            (with_slot(|slot| slot.confirmed_flush_lsn = None), SLOT_AHEAD),
            (Observed { in_recovery: true, ..with_slot(|slot| slot.synced = true) }, STANDBY_NOT_PROMOTED),
        ];
        for (index, (observed, code)) in cases.iter().enumerate() {
            assert_eq!(decide(observed), Err(*code), "case {index}");
        }
    }

    #[test]
    fn a_promotion_at_or_after_the_checkpoint_is_accepted_and_recorded() {
        for left in [600, 601] {
            let promoted = Observed { timeline: 3, left_at: Some(Lsn(left)), ..with_slot(|slot| slot.synced = true) };
            assert_eq!(decide(&promoted), Ok(History { timeline: 3, ..history() }));
        }
    }

    #[test]
    fn in_the_middle_of_a_transaction_its_end_is_too_far_for_the_slot() {
        let part = Position { part: 3, ..Position::postgres(Lsn(600)) };
        let at_the_end = with_slot(|slot| slot.confirmed_flush_lsn = Some(Lsn(600)));
        assert_eq!(decide_at(&part, &at_the_end), Err(SLOT_AHEAD));
        assert!(decide_at(&Position::postgres(Lsn(600)), &at_the_end).is_ok());
    }

    #[test]
    fn wal_about_to_be_removed_is_still_there() {
        assert!(decide(&with_slot(|slot| slot.wal_status = Some("unreserved".to_owned()))).is_ok());
    }

    #[test]
    fn refusals_name_the_bounds_and_the_repair() {
        let name = "orders".parse().unwrap();
        let ahead = with_slot(|slot| slot.confirmed_flush_lsn = Some(Lsn(0x1_0000_0001)));
        let text = verdict(&name, &history(), &Position::postgres(Lsn(600)), &ahead).unwrap_err().to_string();
        for part in ["0/258", "1/1", "tidegate migrate --name orders --recreate-slot"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
