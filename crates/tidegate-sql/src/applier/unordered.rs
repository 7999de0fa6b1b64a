//! Transactions of a source that tells no order of changes inside them (CockroachDB): there is no source order to go
//! back to when a folded plan is refused.
//!
//! What is refused then is most often a unique value that moves from row to row. So each transaction is written in the
//! first of these ways that the target takes: folded; with all changed rows out before any is back; change by change,
//! those refused once more behind the others for as long as that gets on.

use std::ops::Range;
use std::sync::Arc;

use tidegate_model::{Batch, Change, Position, Problem};
use tokio::sync::mpsc;
use tracing::debug;

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::planning::Blueprint;
use super::reading::{PositionedChanges, positioned_one};
use super::single_file::{Head, refused_change};
use super::{refusal, savepoint};
use crate::plan::{Plan, Planner, Single, SliceLimit};
use crate::server_error;

/// Source transactions planned ahead of the one that is being written.
const AHEAD_MAX: usize = 4;

/// How one source transaction may be written.
#[derive(Debug)]
pub(super) struct Ways {
    /// `None`: it cannot be planned whole.
    folded: Option<Plan>,
    replacing: Option<Plan>,
    singles: Vec<(Single, Position)>,
    /// The change that cannot be planned even alone, behind those that can.
    unplanned: Option<Problem>,
}

/// Whether the transactions of a batch tell no order.
pub(super) fn is_unordered(batch: &Batch) -> bool {
    batch.transactions.iter().any(|transaction| transaction.position.hlc().is_some())
}

/// Plans changes of one transaction in every way.
pub(super) async fn ways_of(changes: Vec<(Position, Change)>, blueprint: &Blueprint) -> Result<Ways, Failure> {
    let blueprint = blueprint.clone();
    let plan = move || plan_ways(&mut blueprint.planner(), Box::new(changes.into_iter().map(Ok)));
    let ways = tokio::task::spawn_blocking(plan).await.map_err(|_| ended_early())?;
    Ok(ways?)
}

fn plan_ways(planner: &mut Planner, changes: PositionedChanges<'_>) -> Result<Ways, Problem> {
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let whole = SliceLimit { bytes: u64::MAX, changes: u64::MAX };
    let folded = planner.slice(&mut changes.iter().cloned().map(Ok), whole);
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
    Ok(Ways { folded, replacing: replacing.ok().flatten(), singles, unplanned })
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
    let mut planned = plan_all(blueprint, batch, members);
    let mut exchange = Exchange::default();
    connection.send_begin(&mut exchange, &head.span, head.committed_at).await;
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))?;
    let mut rows = 0;
    while let Some(ways) = planned.recv().await {
        rows += write_inside(connection, ways?).await?;
    }
    let mut exchange = Exchange::default();
    connection.send_text(&mut exchange, Step::Commit, "COMMIT").await;
    exchange.outcome().await.map_err(|(step, error)| match connection.failure(step, error) {
        Failure::Refused(error) => Failure::Final(refusal::commit(&head.span.until, error)),
        other => other,
    })?;
    Ok(rows)
}

/// Plans source transactions on a thread of its own that ends with the receiver.
fn plan_all(blueprint: &Blueprint, batch: &Arc<Batch>, members: Range<usize>) -> mpsc::Receiver<Result<Ways, Problem>> {
    let (out, planned) = mpsc::channel(AHEAD_MAX);
    let (blueprint, batch) = (blueprint.clone(), Arc::clone(batch));
    let work = move || {
        let mut planner = blueprint.planner();
        for index in members {
            let ways = plan_ways(&mut planner, positioned_one(&batch, index));
            if out.blocking_send(ways).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("tidegate-ways".to_owned()).spawn(work).expect("the system starts threads");
    planned
}

/// Writes one source transaction inside the target transaction that is open, and returns how many changes it had.
pub(super) async fn write_inside(connection: &mut Connection, ways: Ways) -> Result<u64, Failure> {
    let rows = ways.singles.len() as u64;
    for plan in [ways.folded, ways.replacing].into_iter().flatten() {
        match savepoint::write_plan(connection, &Arc::new(plan)).await {
            Ok(()) => return Ok(rows),
            Err(Failure::Refused(error)) => {
                debug!(error = %server_error::describe(&error), "transaction refused in one way");
                savepoint::take_back(connection).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
    write_in_some_order(connection, ways.singles).await?;
    ways.unplanned.map_or(Ok(rows), |problem| Err(Failure::Final(problem)))
}

/// Writes changes one by one. One that is refused waits for the others: what it needs may come from them.
async fn write_in_some_order(connection: &mut Connection, singles: Vec<(Single, Position)>) -> Result<(), Failure> {
    let mut waiting = singles;
    while !waiting.is_empty() {
        let (before, mut refused, mut first) = (waiting.len(), Vec::new(), None);
        for (single, position) in waiting {
            let plan = Arc::new(Plan { statements: single.statements.clone(), rows: 1 });
            match savepoint::write_plan(connection, &plan).await {
                Ok(()) => {}
                Err(Failure::Refused(error)) => {
                    savepoint::take_back(connection).await?;
                    first.get_or_insert_with(|| refused_change(connection, &single, &position, error));
                    refused.push((single, position));
                }
                Err(failure) => return Err(failure),
            }
        }
        if let Some(first) = first.filter(|_| refused.len() == before) {
            return Err(first);
        }
        waiting = refused;
    }
    Ok(())
}

fn ended_early() -> Failure {
    Failure::Final(Problem::bug("AP059", "a planning thread ended early", "it did not say why"))
}
