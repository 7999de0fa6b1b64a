//! A transaction on disk: one transaction at the target, too, written slice by slice.
//!
//! Each slice stands behind a savepoint. One that is refused goes to source order from there, and the rest goes on
//! folded. Where even that is refused, because of a key that another slice may free or bring, all of it is written again
//! in slices that are much larger.

use std::sync::Arc;

use tidegate_model::{Batch, Change, Position};
use tracing::{debug, info};

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::planning::Blueprint;
use super::progress::Shared;
use super::reading::{SLICE, Slice, TOGETHER, slices};
use super::{refusal, savepoint, single_file, ways};
use crate::plan::SliceLimit;

/// Writes a batch that has changes on disk, and returns how many changes it had. A failed one is rolled back.
pub(super) async fn write_batch(
    connection: &mut Connection,
    batch: &Arc<Batch>,
    blueprint: &Blueprint,
    shared: &Shared,
) -> Result<u64, Failure> {
    match write_in_slices(connection, batch, blueprint, shared, SLICE).await {
        Err(Failure::Apart(refused)) => {
            info!(until = %batch.span.until, refused = %refused.what, "writing the transaction in larger slices");
            let written = write_in_slices(connection, batch, blueprint, shared, TOGETHER).await;
            written.map_err(|failure| match failure {
                Failure::Apart(refused) => Failure::Final(refusal::too_far_apart(&batch.span.until, refused)),
                failure => failure,
            })
        }
        written => written,
    }
}

async fn write_in_slices(
    connection: &mut Connection,
    batch: &Arc<Batch>,
    blueprint: &Blueprint,
    shared: &Shared,
    limit: SliceLimit,
) -> Result<u64, Failure> {
    let written = Writer { connection, batch, blueprint, shared, limit }.write().await;
    shared.show(|progress| progress.rows_uncommitted = 0);
    if written.is_err() {
        // A session that cannot roll back is lost, and with it the transaction.
        let _ = connection.roll_back().await;
    }
    written
}

struct Writer<'a> {
    connection: &'a mut Connection,
    batch: &'a Arc<Batch>,
    blueprint: &'a Blueprint,
    shared: &'a Shared,
    limit: SliceLimit,
}

impl Writer<'_> {
    async fn write(mut self) -> Result<u64, Failure> {
        let span = &self.batch.span;
        let bytes: u64 = self.batch.transactions.iter().map(|transaction| transaction.changes.bytes()).sum();
        info!(until = %span.until, bytes, "writing a transaction from disk");
        let mut slices = slices(self.batch, self.blueprint, self.limit);
        let mut exchange = Exchange::default();
        let committed_at = self.batch.transactions.last().map(|transaction| transaction.committed_at);
        self.connection.send_begin(&mut exchange, span, committed_at).await;
        exchange.outcome().await.map_err(|(step, error)| self.connection.failure(step, error))?;
        let (mut rows, mut first) = (0, true);
        while let Some(slice) = slices.recv().await {
            let slice = slice?;
            let is_piece = !(std::mem::take(&mut first) && slice.last);
            rows += self.write_slice(slice, is_piece).await.map_err(|failure| failure.of_piece(is_piece))?;
            self.shared.show(|progress| progress.rows_uncommitted = rows);
        }
        let mut exchange = Exchange::default();
        self.connection.send_text(&mut exchange, Step::Commit, "COMMIT").await;
        let committed = exchange.outcome().await;
        committed.map_err(|(step, error)| match self.connection.failure(step, error) {
            Failure::Refused(error) => Failure::Final(refusal::commit(&span.until, error)),
            other => other,
        })?;
        Ok(rows)
    }

    async fn write_slice(&mut self, slice: Slice, is_piece: bool) -> Result<u64, Failure> {
        if let Some(plan) = slice.plan.map(Arc::new) {
            match savepoint::write_plan(self.connection, &plan).await {
                Ok(()) => return Ok(plan.rows),
                Err(Failure::Refused(error)) => {
                    debug!(error = %crate::server_error::describe(&error), "slice refused, going to source order");
                    savepoint::take_back(self.connection).await?;
                    self.shared.show(|progress| progress.batches_in_source_order += 1);
                }
                Err(failure) => return Err(failure),
            }
        }
        self.write_in_source_order(slice.changes, is_piece).await
    }

    async fn write_in_source_order(
        &mut self,
        changes: Vec<(Position, Change)>,
        is_piece: bool,
    ) -> Result<u64, Failure> {
        if ways::are_needed(self.batch, self.connection.rights()) {
            let ways = ways::ways_of(changes, self.blueprint).await?;
            return ways::write_inside(self.connection, ways, is_piece).await;
        }
        let mut items = single_file::changes(changes, self.blueprint);
        single_file::write_inside(self.connection, &mut items).await
    }
}
