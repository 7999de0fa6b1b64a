//! A source transaction that the target does not take at once, written in parts: each a target transaction of its own,
//! whose checkpoint says how many changes of the source transaction are there.
//!
//! Between its first part and its last the target is not at a state of the source. That is declared, in the checkpoint
//! and in what is shown, and happens on CockroachDB only.

use std::sync::Arc;

use tidegate_model::{Batch, Position, Problem, Span, Timestamp};
use tracing::{debug, info};

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::{Failure, TooLarge};
use super::planning::Blueprint;
use super::progress::{Giant, Shared};
use super::reading::{SLICE, Slice, TOGETHER, part_done, slices};
use super::single_file::Head;
use super::{refusal, size::Size, ways};
use crate::plan::{Plan, SliceLimit};

/// Writes a batch of one source transaction. What was written of it when it fails is durable, and told. Where a part is
/// refused because of a key that a later part may free or bring, the rest is written in parts that are much larger.
pub(super) async fn write_batch(
    connection: &mut Connection,
    batch: &Arc<Batch>,
    blueprint: &Blueprint,
    size: &mut Size,
    shared: &Shared,
) -> Result<(), Failure> {
    let Some(transaction) = batch.transactions.first() else {
        let problem = Problem::bug("AP061", "a batch without transactions was to be written in parts", "it is empty");
        return Err(Failure::Final(problem));
    };
    let mut parts = Parts {
        connection,
        blueprint,
        shared,
        until: batch.span.until.clone(),
        after: batch.span.after.clone(),
        part: part_done(batch, transaction),
        position: transaction.position.clone(),
        committed_at: transaction.committed_at,
    };
    info!(position = %parts.position, bytes = transaction.changes.bytes(), from = parts.part, "writing a transaction in parts");
    let changes = size.rows_max().map_or(SLICE.changes, |max| max.min(SLICE.changes));
    match parts.write_all(batch, SliceLimit { changes, ..SLICE }, size).await {
        Err(Failure::Apart(refused)) => {
            info!(position = %parts.position, from = parts.part, refused = %refused.what, "writing larger parts");
            let span = Span { after: parts.after.clone(), until: parts.until.clone() };
            let rest = Arc::new(Batch { span, ..Batch::clone(batch) });
            parts.write_all(&rest, TOGETHER, size).await.map_err(|failure| match failure {
                // The target does not take together what needs each other.
                Failure::Apart(_) | Failure::TooLarge(_) => {
                    Failure::Final(refusal::too_far_apart(&parts.position, refused))
                }
                failure => failure,
            })
        }
        written => written,
    }
}

struct Parts<'a> {
    connection: &'a mut Connection,
    blueprint: &'a Blueprint,
    shared: &'a Shared,
    /// Of the whole source transaction.
    position: Position,
    committed_at: Timestamp,
    /// Where the checkpoint stands when it is written whole.
    until: Position,
    /// Where the checkpoint stands now.
    after: Position,
    /// How many of its changes are there.
    part: u64,
}

impl Parts<'_> {
    /// Writes what is left of the transaction that `batch` has.
    async fn write_all(&mut self, batch: &Arc<Batch>, limit: SliceLimit, size: &mut Size) -> Result<(), Failure> {
        let mut slices = slices(batch, self.blueprint, limit);
        let mut ended = false;
        while let Some(slice) = slices.recv().await {
            let slice = slice?;
            let (rows, alone) = (slice.changes.len() as u64, slice.changes.len() == 1);
            ended = slice.last;
            let is_piece = self.part > 0 || !ended;
            match self.write(slice, is_piece).await.map_err(|failure| failure.of_piece(is_piece)) {
                Ok(()) => size.grow(rows),
                Err(Failure::TooLarge(TooLarge { reason, for_good: true })) if alone => {
                    return Err(Failure::Final(refusal::too_large(&self.position, self.part, reason)));
                }
                Err(failure) => {
                    match &failure {
                        Failure::TooLarge(_) => size.shrink(rows),
                        Failure::Conflict(_) => size.conflict(rows),
                        _ => {}
                    }
                    return Err(failure);
                }
            }
        }
        if !ended {
            // All of it is there but for the word that it is whole.
            let end = Slice { plan: Some(Plan::default()), changes: Vec::new(), last: true };
            self.write(end, false).await?;
        }
        Ok(())
    }

    /// Writes the next part; a failed one is rolled back.
    async fn write(&mut self, slice: Slice, is_piece: bool) -> Result<(), Failure> {
        let part = self.part + slice.changes.len() as u64;
        let until = if slice.last { self.until.clone() } else { Position { part, ..self.position.clone() } };
        let span = Span { after: self.after.clone(), until: until.clone() };
        let head = Head { span, committed_at: slice.last.then_some(self.committed_at) };
        let rows = match slice.plan {
            Some(plan) => match self.write_plan(&Arc::new(plan), &head).await {
                Err(Failure::Refused(error)) => {
                    debug!(error = %crate::server_error::describe(&error), "part refused, going to source order");
                    self.shared.show(|progress| progress.batches_in_source_order += 1);
                    ways::write_changes(self.connection, self.blueprint, slice.changes, head, is_piece).await?
                }
                written => written?,
            },
            None => ways::write_changes(self.connection, self.blueprint, slice.changes, head, is_piece).await?,
        };
        (self.after, self.part) = (until.clone(), part);
        self.shared.show(|progress| {
            progress.rows += rows;
            if !slice.last {
                progress.applied = until;
                progress.giant = Some(Giant { position: self.position.clone(), part });
            }
        });
        Ok(())
    }

    async fn write_plan(&mut self, plan: &Arc<Plan>, head: &Head) -> Result<u64, Failure> {
        let connection = &mut *self.connection;
        connection.next_round();
        for (index, statement) in plan.statements.iter().enumerate() {
            let prepared = connection.prepare(&statement.sql).await;
            prepared.map_err(|error| connection.failure(Step::Statement(index), error))?;
        }
        let mut exchange = Exchange::default();
        let mut sent = connection.send_begin(&mut exchange, &head.span, head.committed_at).await;
        for index in 0..plan.statements.len() {
            sent = sent && connection.send_planned(&mut exchange, plan, index).await;
        }
        let end = if sent { "COMMIT" } else { "ROLLBACK" };
        connection.send_text(&mut exchange, Step::Commit, end).await;
        let outcome = exchange.outcome().await;
        match outcome.map_err(|(step, error)| connection.failure(step, error)) {
            Ok(()) => Ok(plan.rows),
            Err(failure) => {
                // A session that cannot roll back is lost, and with it the transaction.
                let _ = connection.roll_back().await;
                Err(failure)
            }
        }
    }
}
