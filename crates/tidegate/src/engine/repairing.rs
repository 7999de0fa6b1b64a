//! Makes the target equal where a comparison found that it is not, while both sides are written.
//!
//! ```text
//!   differing keys --> slices --> hold the applier at a new fence --> compare these keys again --> write the changes there
//!        ^                                                                                              |
//!        +----------------------- compare once more, until equal <----------------- let go <------------+
//! ```
//!
//! What is written is what the source had at the position at which the target stands, so nothing newer is lost, and
//! what the stream brings next finds the rows that it expects. A table without a key is compared as a whole while the
//! applier is held: only that tells how many of equal rows there are too many.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_model::{Class, Problem, TableMap, TableName};
use tidegate_sql::repair::{Repairer, parents_first};
use tidegate_verify::{DifferenceKind, Key, KeyReport, Options, TableReport, Verdict, compare_keys};
use tokio::time::timeout;
use tracing::{info, warn};

use super::verifying::Comparison;

/// How many keys of a table are noted for its repair; what is behind them has its turn when these are repaired.
pub const KEYS_LISTED_MAX: usize = 100_000;

/// How many of them a report keeps.
const KEYS_REPORTED_MAX: usize = 1_000;
/// How many rows are repaired while the applier is held once, and of how many bytes.
const SLICE_ROWS: usize = 1_000;
const SLICE_BYTES: u64 = 8 << 20;
/// How long the applier may be held. Most of it goes to tables without a key, which are compared as a whole.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// How often the repair of what still differs is tried. Somebody who writes to the target may go on doing so.
const ROUNDS_MAX: usize = 10;

/// A table that differs, and what is known of it now.
struct Damaged<'a> {
    table: &'a TableMap,
    /// Its place in the report.
    place: usize,
    /// What the last comparison found.
    found: TableReport,
    repaired: u64,
    /// Why its repair failed.
    problem: Option<String>,
}

/// Rows that are repaired together.
type Slice<'a> = Vec<(&'a TableMap, KeyReport)>;

/// Repairs the tables that reports say are different, and notes in the reports what came of it. `reports` are those of
/// `tables`.
pub async fn repair(
    comparison: &mut Comparison<'_>,
    tables: &[TableMap],
    reports: &mut [TableReport],
    say: impl Fn(String),
) -> Result<(), Problem> {
    drop(comparison.take_fence());
    let differs = |(place, (table, report)): (usize, (_, &TableReport))| {
        let found = (report.verdict == Verdict::Different).then(|| report.clone())?;
        Some(Damaged { table, place, found, repaired: 0, problem: None })
    };
    let mut all: Vec<Damaged<'_>> = tables.iter().zip(&*reports).enumerate().filter_map(differs).collect();
    for round in 1..=ROUNDS_MAX {
        let mut left: Vec<&mut Damaged<'_>> =
            all.iter_mut().filter(|one| one.found.verdict != Verdict::Equal).collect();
        if left.is_empty() || !repair_once(comparison, &mut left, round, &say).await? {
            break;
        }
        compare_again(comparison, &mut left).await?;
    }
    for damaged in all {
        let report = &mut reports[damaged.place];
        info!(table = %report.name, rows = damaged.repaired, verdict = damaged.found.verdict.as_str(), "repaired");
        report.verdict = damaged.found.verdict;
        report.position = damaged.found.position;
        report.repaired = damaged.repaired;
        report.keys.truncate(KEYS_REPORTED_MAX);
        if report.verdict != Verdict::Equal && damaged.problem.is_some() {
            report.note = damaged.problem;
        }
    }
    Ok(())
}

/// Repairs all slices once; tells whether another round may do more.
async fn repair_once(
    comparison: &Comparison<'_>,
    left: &mut [&mut Damaged<'_>],
    round: usize,
    say: &impl Fn(String),
) -> Result<bool, Problem> {
    let routes = comparison.fencing().live().await.routes;
    let slices = slices(left, &parents_first(&routes));
    let (number, mut goes_on) = (slices.len(), false);
    for (index, slice) in slices.iter().enumerate() {
        say(format!("repairing {} rows (slice {} of {number}, round {round})", slice.len(), index + 1));
        match repair_slice(comparison, slice).await {
            Ok(written) => {
                for (table, rows) in written {
                    let damaged = left.iter_mut().find(|one| one.table.source.name == table);
                    damaged.into_iter().for_each(|one| one.repaired += rows);
                }
                goes_on = true;
            }
            Err(problem) => {
                warn!(error = %problem.what, why = %problem.why, "rows could not be repaired");
                goes_on |= problem.class == Class::Transient;
                for damaged in left.iter_mut().filter(|one| slice.iter().any(|(table, _)| *table == one.table)) {
                    damaged.problem = Some(format!("[{}] {}: {}", problem.code, problem.what, problem.why));
                }
            }
        }
    }
    Ok(goes_on)
}

/// Cuts what differs into slices: rows that go, children first, then the others, parents first.
fn slices<'a>(left: &[&mut Damaged<'a>], order: &[TableName]) -> Vec<Slice<'a>> {
    let place: HashMap<&TableName, usize> = order.iter().enumerate().map(|(place, name)| (name, place)).collect();
    let mut sorted: Vec<&Damaged<'a>> = left.iter().map(|damaged| &**damaged).collect();
    sorted.sort_by_key(|damaged| place.get(&damaged.table.source.name));
    let rows = |damaged: &Damaged<'a>, goes: bool| {
        let (table, keys) = (damaged.table, damaged.found.keys.clone());
        keys.into_iter().filter(move |key| (key.kind == DifferenceKind::Extra) == goes).map(move |key| (table, key))
    };
    let going = sorted.iter().rev().flat_map(|damaged| rows(damaged, true));
    let coming = sorted.iter().flat_map(|damaged| rows(damaged, false));
    let all: Vec<(&TableMap, KeyReport)> = going.chain(coming).collect();
    all.chunks(SLICE_ROWS).map(<[_]>::to_vec).collect()
}

/// Repairs the rows of a slice that still differ, in one transaction. Returns how many rows of which table.
async fn repair_slice(comparison: &Comparison<'_>, slice: &Slice<'_>) -> Result<Vec<(TableName, u64)>, Problem> {
    // The session is made beforehand, because the applier is held meanwhile. One whose transaction was given up is not
    // to be used again.
    let repairer = open(comparison).await?;
    let held = comparison.fencing().hold().await?;
    let repairing = async {
        let pair = &held.fence.pair;
        let options = Options { keys_listed_max: SLICE_ROWS, ..Options::default() };
        let options = Options { equality: comparison.options().equality, ..options };
        let (mut changes, mut written, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (table, keys) in by_table(slice) {
            let found = compare_keys(pair, table, &keys, &options).await?;
            let some = tidegate_verify::repair(pair, table, &found.keys, SLICE_BYTES.saturating_sub(bytes)).await?;
            bytes += some.iter().map(|change| change.memory_bytes()).sum::<u64>();
            written.push((table.source.name.clone(), some.len() as u64));
            changes.extend(some);
            if bytes >= SLICE_BYTES {
                break;
            }
        }
        repairer.write(&held.fence.position, &changes).await.map(|()| written)
    };
    timeout(HOLD_MAX, repairing).await.unwrap_or_else(|_elapsed| Err(held_for_too_long()))
}

async fn open(comparison: &Comparison<'_>) -> Result<Repairer, Problem> {
    let fencing = comparison.fencing();
    let live = fencing.live().await;
    // What goes to PostgreSQL may be read back; CockroachDB's sessions are always marked.
    let mark = live.start.hlc().is_some();
    Repairer::open(fencing.written(), &live.lease, &live.routes, mark).await
}

fn by_table<'a>(slice: &Slice<'a>) -> Vec<(&'a TableMap, Vec<Key>)> {
    let mut tables: Vec<(&TableMap, Vec<Key>)> = Vec::new();
    for (table, report) in slice {
        let Some(key) = report.row.clone() else { continue };
        match tables.iter_mut().find(|(other, _)| other == table) {
            Some((_, keys)) => keys.push(key),
            None => tables.push((table, vec![key])),
        }
    }
    tables
}

/// Compares what was repaired: the keys that were listed, or all of a table of which not all were.
async fn compare_again(comparison: &mut Comparison<'_>, left: &mut [&mut Damaged<'_>]) -> Result<(), Problem> {
    for damaged in left {
        let keys: Vec<Key> = damaged.found.keys.iter().filter_map(|report| report.row.clone()).collect();
        let all_listed = damaged.found.differing() == keys.len() as u64;
        damaged.found = match all_listed && !damaged.table.key.is_empty() {
            true => comparison.keys(damaged.table, keys).await?,
            false => comparison.table(damaged.table).await?,
        };
    }
    drop(comparison.take_fence());
    Ok(())
}

fn held_for_too_long() -> Problem {
    Problem::definite(
        "RP003",
        "a repair took too long",
        format!("the applier would have been held for more than {} s", HOLD_MAX.as_secs()),
        "a large table without a key is compared as a whole for it: give it a key, or copy it again: \
         tidegate migrate --recopy TABLE",
    )
}
