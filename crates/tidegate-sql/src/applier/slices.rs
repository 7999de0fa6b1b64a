//! A transaction on disk: one transaction at the target, too, written slice by slice.
//!
//! Each slice stands behind a savepoint. One that is refused goes to source order from there, and the rest goes on
//! folded.

use std::sync::Arc;

use tidegate_model::{Batch, TableRoute};
use tracing::{debug, info};

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::planning::{Slice, slices};
use super::progress::Shared;
use super::{refusal, single_file};
use crate::plan::{Plan, SessionRights};

/// Writes a batch that has changes on disk, and returns how many changes it had. A failed one is rolled back.
pub(super) async fn write_batch(
    connection: &mut Connection,
    batch: &Arc<Batch>,
    routes: &[TableRoute],
    shared: &Shared,
) -> Result<u64, Failure> {
    let rights = connection.rights();
    let written = Writer { connection, batch, routes, rights, shared }.write().await;
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
    routes: &'a [TableRoute],
    rights: SessionRights,
    shared: &'a Shared,
}

impl Writer<'_> {
    async fn write(mut self) -> Result<u64, Failure> {
        let span = &self.batch.span;
        let bytes: u64 = self.batch.transactions.iter().map(|transaction| transaction.changes.bytes()).sum();
        info!(until = %span.until, bytes, "writing a transaction from disk");
        let mut slices = slices(self.batch, self.routes.to_vec(), self.rights);
        let mut exchange = Exchange::default();
        let committed_at = self.batch.transactions.last().map(|transaction| transaction.committed_at);
        self.connection.send_begin(&mut exchange, span, committed_at).await;
        exchange.outcome().await.map_err(|(step, error)| Failure::of(step, error))?;
        let mut rows = 0;
        while let Some(slice) = slices.recv().await {
            rows += self.write_slice(slice?).await?;
            self.shared.show(|progress| progress.rows_uncommitted = rows);
        }
        let mut exchange = Exchange::default();
        self.connection.send_text(&mut exchange, Step::Commit, "COMMIT").await;
        let committed = exchange.outcome().await;
        committed.map_err(|(step, error)| match Failure::of(step, error) {
            Failure::Refused(error) => Failure::Final(refusal::commit(&span.until, error)),
            other => other,
        })?;
        Ok(rows)
    }

    async fn write_slice(&mut self, slice: Slice) -> Result<u64, Failure> {
        let Some(plan) = slice.plan else { return self.write_in_source_order(slice.changes).await };
        let plan = Arc::new(plan);
        match self.write_plan(&plan).await {
            Ok(()) => Ok(plan.rows),
            Err(Failure::Refused(error)) => {
                debug!(error = %crate::server_error::describe(&error), "slice refused, going to source order");
                self.text(Step::Savepoint, "ROLLBACK TO SAVEPOINT slice").await?;
                self.shared.show(|progress| progress.batches_in_source_order += 1);
                self.write_in_source_order(slice.changes).await
            }
            Err(failure) => Err(failure),
        }
    }

    async fn write_plan(&mut self, plan: &Arc<Plan>) -> Result<(), Failure> {
        let savepoint = format!("SAVEPOINT slice{}", self.connection.renew_plans());
        self.text(Step::Savepoint, savepoint).await?;
        self.connection.next_round();
        for (index, statement) in plan.statements.iter().enumerate() {
            let prepared = self.connection.prepare(&statement.sql).await;
            prepared.map_err(|error| Failure::of(Step::Statement(index), error))?;
        }
        let mut exchange = Exchange::default();
        let mut sent = true;
        for index in 0..plan.statements.len() {
            sent = sent && self.connection.send_planned(&mut exchange, plan, index).await;
        }
        if sent {
            self.connection.send_text(&mut exchange, Step::Savepoint, "RELEASE SAVEPOINT slice").await;
        }
        exchange.outcome().await.map_err(|(step, error)| Failure::of(step, error))
    }

    async fn write_in_source_order(
        &mut self,
        changes: Vec<(tidegate_model::Position, tidegate_model::Change)>,
    ) -> Result<u64, Failure> {
        let mut items = single_file::changes(changes, self.routes.to_vec(), self.rights);
        single_file::write_inside(self.connection, &mut items).await
    }

    async fn text(&mut self, step: Step, sql: impl Into<String>) -> Result<(), Failure> {
        let mut exchange = Exchange::default();
        self.connection.send_text(&mut exchange, step, sql).await;
        exchange.outcome().await.map_err(|(step, error)| Failure::of(step, error))
    }
}
