//! Source order: change by change, which finds the one that the target refuses.
//!
//! First all of the batch in one target transaction, as it would have been written folded: that is enough where only the
//! order was wrong, as with unique values that change hands. If that is refused too, each source transaction becomes a
//! target transaction with its own step of the checkpoint, so that the checkpoint stands exactly before the one refused.

use std::sync::Arc;

use tidegate_model::{Batch, Change, Position, Problem, Span, Timestamp};
use tokio::sync::mpsc;

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::planning::Blueprint;
use super::reading::{PositionedChanges, positioned, positioned_one};
use super::refusal;
use crate::plan::{Planner, Single};

/// Changes sent without waiting for the answer to the first.
const SENT_TOGETHER_MAX: usize = 32;
/// Changes planned ahead.
const AHEAD_MAX: usize = 8;

/// What the planning thread gives.
#[derive(Debug)]
pub(super) enum Item {
    /// A change.
    Single(Box<Single>, Position),
    /// The end of a source transaction.
    End,
    /// The next change cannot be planned, or not be read.
    Failed(Problem),
}

/// The step of the checkpoint that a transaction begins with.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) span: Span,
    pub(super) committed_at: Option<Timestamp>,
}

/// Plans the transactions of a batch change by change, on a thread of its own that ends with the receiver.
pub(super) fn transactions(batch: &Arc<Batch>, blueprint: &Blueprint) -> mpsc::Receiver<Item> {
    let batch = Arc::clone(batch);
    planned(blueprint, move |planner, out| {
        (0..batch.transactions.len()).all(|index| plan_singles(planner, positioned_one(&batch, index), out))
    })
}

/// Plans the changes of a batch one by one, as if they were one transaction.
pub(super) fn whole(batch: &Arc<Batch>, blueprint: &Blueprint) -> mpsc::Receiver<Item> {
    let batch = Arc::clone(batch);
    planned(blueprint, move |planner, out| plan_singles(planner, positioned(&batch), out))
}

/// Plans some changes one by one, as if they were a transaction.
pub(super) fn changes(changes: Vec<(Position, Change)>, blueprint: &Blueprint) -> mpsc::Receiver<Item> {
    planned(blueprint, move |planner, out| plan_singles(planner, Box::new(changes.into_iter().map(Ok)), out))
}

fn planned(
    blueprint: &Blueprint,
    work: impl FnOnce(&mut Planner, &mpsc::Sender<Item>) -> bool + Send + 'static,
) -> mpsc::Receiver<Item> {
    let (out, items) = mpsc::channel(AHEAD_MAX);
    let blueprint = blueprint.clone();
    std::thread::Builder::new()
        .name("tidegate-single".to_owned())
        .spawn(move || work(&mut blueprint.planner(), &out))
        .expect("the system starts threads");
    items
}

/// Returns whether to go on with the next transaction.
fn plan_singles(planner: &mut Planner, changes: PositionedChanges<'_>, out: &mpsc::Sender<Item>) -> bool {
    for change in changes {
        let single = change.and_then(|(position, change)| Ok((planner.single(&position, &change)?, position)));
        let item = match single {
            Ok((None, _)) => continue,
            Ok((Some(single), position)) => Item::Single(Box::new(single), position),
            Err(problem) => Item::Failed(problem),
        };
        let last = matches!(item, Item::Failed(_));
        if out.blocking_send(item).is_err() || last {
            return false;
        }
    }
    out.blocking_send(Item::End).is_ok()
}

/// Writes one transaction, from BEGIN to COMMIT, and returns how many changes it had. A failed one is rolled back.
pub(super) async fn write_transaction(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
    head: Head,
) -> Result<u64, Failure> {
    let until = head.span.until.clone();
    let written = write(connection, items, Some(head), Some(&until)).await;
    if written.is_err() {
        // A session that cannot roll back is lost, and with it the transaction.
        let _ = connection.roll_back().await;
    }
    written
}

/// Writes changes up to the next end inside the transaction that is open.
pub(super) async fn write_inside(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
) -> Result<u64, Failure> {
    write(connection, items, None, None).await
}

async fn write(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
    mut head: Option<Head>,
    commit: Option<&Position>,
) -> Result<u64, Failure> {
    let mut rows = 0;
    loop {
        let (singles, end) = receive(items).await?;
        // Prepared before anything of this round is on its way: in a transaction that has failed nothing can be
        // prepared.
        connection.next_round();
        for (single, position) in &singles {
            for statement in &single.statements {
                let prepared = connection.prepare(&statement.sql).await;
                prepared.map_err(|error| refused_change(connection, single, position, error))?;
            }
        }
        let mut exchange = Exchange::default();
        let commits = commit.filter(|_| end).is_some();
        send(connection, &mut exchange, head.take(), &singles, commits).await;
        exchange.outcome().await.map_err(|(step, error)| match (step, commit) {
            (Step::Statement(number), _) => refused_change(connection, &singles[number].0, &singles[number].1, error),
            (Step::Commit, Some(position)) => match connection.failure(step, error) {
                Failure::Refused(error) => Failure::Final(refusal::commit(position, error)),
                other => other,
            },
            _ => connection.failure(step, error),
        })?;
        rows += singles.len() as u64;
        if end {
            return Ok(rows);
        }
    }
}

/// Says what follows from the error of one change: if the target refused it, there is nothing left to try.
pub(super) fn refused_change(
    connection: &Connection,
    single: &Single,
    position: &Position,
    error: tokio_postgres::Error,
) -> Failure {
    match connection.failure(Step::Statement(0), error) {
        Failure::Refused(error) => Failure::Final(refusal::change(single, position, error)),
        other => other,
    }
}

/// Returns the next changes, and whether they are the last of their transaction.
async fn receive(items: &mut mpsc::Receiver<Item>) -> Result<(Vec<(Single, Position)>, bool), Failure> {
    let mut singles = Vec::new();
    while singles.len() < SENT_TOGETHER_MAX {
        match items.recv().await {
            Some(Item::Single(single, position)) => singles.push((*single, position)),
            Some(Item::End) => return Ok((singles, true)),
            Some(Item::Failed(problem)) => return Err(Failure::Final(problem)),
            None => {
                let problem = Problem::bug("AP059", "a planning thread ended early", "it did not say why");
                return Err(Failure::Final(problem));
            }
        }
    }
    Ok((singles, false))
}

/// Sends changes without waiting. Stops at what cannot be sent: nothing may follow it.
async fn send(
    connection: &mut Connection,
    exchange: &mut Exchange,
    head: Option<Head>,
    singles: &[(Single, Position)],
    commits: bool,
) {
    if let Some(head) = head
        && !connection.send_begin(exchange, &head.span, head.committed_at).await
    {
        return;
    }
    for (number, (single, _)) in singles.iter().enumerate() {
        for statement in &single.statements {
            if !connection.send_one(exchange, statement.clone(), number).await {
                return;
            }
        }
    }
    if commits {
        connection.send_text(exchange, Step::Commit, "COMMIT").await;
    }
}
