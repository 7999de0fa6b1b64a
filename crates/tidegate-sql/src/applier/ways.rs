//! The ways to write a source transaction whose changes cannot simply be repeated one after another: each is tried, behind
//! a savepoint, until the target takes one.
//!
//! - A source that tells no order of changes inside a transaction (CockroachDB): folded; with all changed rows out before
//!   any is back, because a unique value may move from row to row; change by change, those refused once more behind the
//!   others for as long as that gets on.
//! - A target that checks foreign keys with every statement: the source's own order may break them in the middle, for a
//!   cascade removes the parent before its children. Folded; then in source order, where a removal that others still
//!   refer to waits for those behind it, until one of them needs its place. Nothing else may wait: of two changes of one
//!   row the later must stay the later.

use std::ops::Range;
use std::sync::Arc;

use tidegate_model::{Batch, Change, Position, Problem};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tracing::debug;

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::planning::Blueprint;
use super::reading::{PositionedChanges, positioned_one};
use super::single_file::{Head, refused_change};
use super::{refusal, savepoint};
use crate::plan::{Operation, Plan, Planner, SessionRights, Single, SliceLimit};
use crate::server_error;

/// Changes of a batch in memory are planned together: their size was bounded when it was made.
const WHOLE: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

/// How one source transaction may be written.
#[derive(Debug)]
pub(super) struct Ways {
    /// The changes have an order, which counts.
    ordered: bool,
    /// `None`: it cannot be planned whole.
    folded: Option<Plan>,
    replacing: Option<Plan>,
    singles: Vec<(Single, Position)>,
    /// The change that cannot be planned even alone, behind those that can.
    unplanned: Option<Problem>,
}

/// Whether the transactions of a batch must be written like this.
pub(super) fn are_needed(batch: &Batch, rights: SessionRights) -> bool {
    rights.foreign_keys_enforced || batch.transactions.iter().any(|transaction| transaction.position.hlc().is_some())
}

/// Plans changes of one transaction in every way.
pub(super) async fn ways_of(changes: Vec<(Position, Change)>, blueprint: &Blueprint) -> Result<Ways, Failure> {
    let plan = move |planner: &mut Planner| plan_ways(planner, Box::new(changes.into_iter().map(Ok)));
    let (_, ways) = plan_apart(blueprint.planner(), plan).await?;
    Ok(ways?)
}

fn plan_ways(planner: &mut Planner, changes: PositionedChanges<'_>) -> Result<Ways, Problem> {
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let folded = planner.slice(&mut changes.iter().cloned().map(Ok), WHOLE);
    let replacing = planner.replacing(&mut changes.iter().cloned().map(Ok));
    let (mut singles, mut unplanned) = (Vec::new(), None);
    for (position, change) in &changes {
        match planner.single(position, change) {
            Ok(single) => singles.extend(single.map(|single| (single, position.clone()))),
            Err(problem) => {
                unplanned = Some(problem);
                break;
            }
        }
    }
    let folded = folded.ok().map(Option::unwrap_or_default);
    let ordered = changes.iter().all(|(position, _)| position.hlc().is_none());
    let replacing = replacing.ok().flatten().filter(|_| !ordered);
    Ok(Ways { ordered, folded, replacing, singles, unplanned })
}

/// Writes changes of one source transaction in a target transaction of their own, and returns how many they are. A failed
/// one is rolled back.
pub(super) async fn write_changes(
    connection: &mut Connection,
    blueprint: &Blueprint,
    changes: Vec<(Position, Change)>,
    head: Head,
    is_piece: bool,
) -> Result<u64, Failure> {
    let write = async {
        begin(connection, &head).await?;
        let rows = write_inside(connection, ways_of(changes, blueprint).await?, is_piece).await?;
        commit(connection, &head).await?;
        Ok(rows)
    };
    let written = write.await;
    if written.is_err() {
        // A session that cannot roll back is lost, and with it the transaction.
        let _ = connection.roll_back().await;
    }
    written
}

/// Writes some source transactions of a batch in one target transaction, from BEGIN to COMMIT, and returns how many
/// changes they had. A failed one is rolled back.
pub(super) async fn write_transaction(
    connection: &mut Connection,
    blueprint: &Blueprint,
    batch: &Arc<Batch>,
    members: Range<usize>,
    head: Head,
) -> Result<u64, Failure> {
    let written = write(connection, blueprint, batch, members, head).await;
    if written.is_err() {
        // A session that cannot roll back is lost, and with it the transaction.
        let _ = connection.roll_back().await;
    }
    written
}

async fn write(
    connection: &mut Connection,
    blueprint: &Blueprint,
    batch: &Arc<Batch>,
    members: Range<usize>,
    head: Head,
) -> Result<u64, Failure> {
    begin(connection, &head).await?;
    let rows = write_members(connection, blueprint, batch, members).await?;
    commit(connection, &head).await?;
    Ok(rows)
}

async fn begin(connection: &mut Connection, head: &Head) -> Result<(), Failure> {
    let mut exchange = Exchange::default();
    connection.send_begin(&mut exchange, &head.span, head.committed_at).await;
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))
}

async fn commit(connection: &mut Connection, head: &Head) -> Result<(), Failure> {
    let mut exchange = Exchange::default();
    connection.send_text(&mut exchange, Step::Commit, "COMMIT").await;
    exchange.outcome().await.map_err(|(step, error)| match connection.failure(step, error) {
        Failure::Refused(error) => Failure::Final(refusal::commit(&head.span.until, error)),
        other => other,
    })
}

/// Writes source transactions inside the target transaction that is open: halves of them folded, halves of those that are
/// refused, down to the transactions that the target does not take folded. So a few of those cost little.
async fn write_members(
    connection: &mut Connection,
    blueprint: &Blueprint,
    batch: &Arc<Batch>,
    members: Range<usize>,
) -> Result<u64, Failure> {
    let (mut rows, mut planner) = (0, blueprint.planner());
    // All of them together were refused before.
    let mut left: Vec<Range<usize>> = halves(members).into_iter().rev().collect();
    while let Some(members) = left.pop() {
        let (batch, of) = (Arc::clone(batch), members.clone());
        if members.len() == 1 {
            let ways;
            (planner, ways) =
                plan_apart(planner, move |planner| plan_ways(planner, positioned_one(&batch, of.start))).await?;
            rows += write_inside(connection, ways?, false).await?;
            continue;
        }
        let plan;
        (planner, plan) = plan_apart(planner, move |planner| {
            let mut changes = of.flat_map(|index| positioned_one(&batch, index));
            planner.slice(&mut changes, WHOLE)
        })
        .await?;
        // What cannot be planned together is told by the transaction that it lies in.
        let written = match plan.map(Option::unwrap_or_default) {
            Ok(plan) => write_folded(connection, plan).await?.ok(),
            Err(_) => None,
        };
        match written {
            Some(written) => rows += written,
            None => left.extend(halves(members).into_iter().rev()),
        }
    }
    Ok(rows)
}

fn halves(members: Range<usize>) -> Vec<Range<usize>> {
    let middle = members.start + members.len() / 2;
    [members.start..middle, middle..members.end].into_iter().filter(|half| !half.is_empty()).collect()
}

/// Plans on a thread where that keeps nobody waiting.
async fn plan_apart<T: Send + 'static>(
    mut planner: Planner,
    plan: impl FnOnce(&mut Planner) -> T + Send + 'static,
) -> Result<(Planner, T), Failure> {
    let work = move || {
        let planned = plan(&mut planner);
        (planner, planned)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| ended_early())
}

/// Writes a plan and returns how many changes it had, or why it was refused and taken back.
async fn write_folded(connection: &mut Connection, plan: Plan) -> Result<Result<u64, Error>, Failure> {
    let rows = plan.rows;
    match savepoint::write_plan(connection, &Arc::new(plan)).await {
        Ok(()) => Ok(Ok(rows)),
        Err(Failure::Refused(error)) => {
            debug!(error = %server_error::describe(&error), "refused in one way");
            savepoint::take_back(connection).await?;
            Ok(Err(error))
        }
        Err(failure) => Err(failure),
    }
}

/// Writes one source transaction, or a piece of one, inside the target transaction that is open, and returns how many
/// changes it had.
pub(super) async fn write_inside(connection: &mut Connection, ways: Ways, is_piece: bool) -> Result<u64, Failure> {
    let rows = ways.singles.len() as u64;
    for plan in [ways.folded, ways.replacing].into_iter().flatten() {
        match write_folded(connection, plan).await? {
            Ok(_) => return Ok(rows),
            // Where the source tells no order, each change would be tried again and again, to end at the one that needs
            // another piece.
            Err(error) if is_piece && !ways.ordered && refusal::names_keys(&error) => {
                return Err(Failure::Apart(refusal::piece(error)));
            }
            Err(_) => {}
        }
    }
    write_singly(connection, ways.singles, ways.ordered).await?;
    ways.unplanned.map_or(Ok(rows), |problem| Err(Failure::Final(problem)))
}

/// Writes changes one by one. One that is refused and may wait comes once more behind the others: what it needs may come
/// from them.
async fn write_singly(
    connection: &mut Connection,
    singles: Vec<(Single, Position)>,
    ordered: bool,
) -> Result<(), Failure> {
    let mut waiting = singles;
    while !waiting.is_empty() {
        let (before, mut refused, mut first) = (waiting.len(), Vec::new(), None);
        for (single, position) in waiting {
            let Err(mut error) = write_single(connection, &single).await? else { continue };
            let may_wait = !ordered || is_referred_to(&single, &error);
            if !may_wait && write_waiting(connection, &mut refused).await? {
                // A row that waited for its removal was in the way.
                match write_single(connection, &single).await? {
                    Ok(()) => continue,
                    Err(again) => error = again,
                }
            }
            let failure = refused_change(connection, &single, &position, error);
            if !may_wait {
                return Err(failure);
            }
            first.get_or_insert(failure);
            refused.push((single, position));
        }
        if let Some(first) = first.filter(|_| refused.len() == before) {
            return Err(first);
        }
        waiting = refused;
    }
    Ok(())
}

/// Writes one change, or returns why it was refused and taken back.
async fn write_single(connection: &mut Connection, single: &Single) -> Result<Result<(), Error>, Failure> {
    let plan = Plan { statements: single.statements.clone(), rows: 1 };
    Ok(write_folded(connection, plan).await?.map(|_| ()))
}

/// Writes those of the waiting removals that are taken by now, for as long as that gets on, and returns whether there were
/// any. A cascade has removed a parent's children by the time the source writes what else the parent made room for.
async fn write_waiting(connection: &mut Connection, waiting: &mut Vec<(Single, Position)>) -> Result<bool, Failure> {
    let all = waiting.len();
    loop {
        let before = waiting.len();
        for (single, position) in std::mem::take(waiting) {
            if write_single(connection, &single).await?.is_err() {
                waiting.push((single, position));
            }
        }
        if waiting.len() == before {
            return Ok(waiting.len() < all);
        }
    }
}

/// Whether a row could not be removed because others still refer to it.
fn is_referred_to(single: &Single, error: &Error) -> bool {
    single.operation == Operation::Delete && error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION)
}

fn ended_early() -> Failure {
    Failure::Final(Problem::bug("AP059", "a planning thread ended early", "it did not say why"))
}
