//! The ways of the executor that wait for each target transaction: in source order, from disk, in parts.

use std::sync::Arc;

use tidegate_model::{Batch, Span};
use tracing::{debug, info};

use super::executor::{Executor, last_committed_at};
use super::failure::Failure;
use super::single_file::{self, Head};
use super::{parts, slices, ways};

impl Executor {
    pub(super) async fn write_in_source_order(&mut self) -> Result<(), Failure> {
        let batch = Arc::clone(&self.front().batch);
        if self.write_whole_in_source_order(&batch).await? {
            self.shared.show(|progress| progress.batches_in_source_order += 1);
            self.front_done();
            return Ok(());
        }
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        info!(after = %batch.span.after, until = %batch.span.until, "writing a batch transaction by transaction");
        let by_ways = ways::are_needed(&batch, connection.rights());
        let mut items = single_file::transactions(&batch, &self.blueprint);
        let mut after = batch.span.after.clone();
        for (index, transaction) in batch.transactions.iter().enumerate() {
            let last = index + 1 == batch.transactions.len();
            let until = if last { &batch.span.until } else { &transaction.position };
            let span = Span { after, until: until.clone() };
            let head = Head { span, committed_at: Some(transaction.committed_at) };
            let rows = if by_ways {
                ways::write_transaction(connection, &self.blueprint, &batch, index..index + 1, head).await?
            } else {
                single_file::write_transaction(connection, &mut items, head).await?
            };
            after = until.clone();
            self.durable = after.clone();
            self.shared.show(|progress| {
                progress.applied = after.clone();
                progress.committed_at = Some(transaction.committed_at);
                progress.rows += rows;
                progress.transactions += 1;
            });
        }
        self.shared.show(|progress| progress.batches_in_source_order += 1);
        let job = self.jobs.pop_front().expect("the first batch was under way");
        self.after_success();
        self.job_done(&job);
        Ok(())
    }

    /// Writes the first batch in source order and in one transaction. Returns false where that is refused: one of its
    /// transactions will say why.
    async fn write_whole_in_source_order(&mut self, batch: &Arc<Batch>) -> Result<bool, Failure> {
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        if batch.transactions.len() < 2 {
            return Ok(false);
        }
        let head = Head { span: batch.span.clone(), committed_at: last_committed_at(batch) };
        let written = if ways::are_needed(batch, connection.rights()) {
            let all = 0..batch.transactions.len();
            ways::write_transaction(connection, &self.blueprint, batch, all, head).await
        } else {
            let mut items = single_file::whole(batch, &self.blueprint);
            single_file::write_transaction(connection, &mut items, head).await
        };
        match written {
            Ok(rows) => {
                self.shared.show(|progress| progress.rows += rows);
                Ok(true)
            }
            Err(Failure::Final(problem)) => {
                debug!(error = %problem.what, until = %batch.span.until, "batch refused in source order");
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn write_slices(&mut self) -> Result<(), Failure> {
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        let front = self.jobs.front().expect("there is a batch to write");
        let rows = slices::write_batch(connection, &front.batch, &self.blueprint, &self.shared).await?;
        self.shared.show(|progress| progress.rows += rows);
        self.front_done();
        Ok(())
    }

    pub(super) async fn write_parts(&mut self) -> Result<(), Failure> {
        self.connection().await?;
        let batch = Arc::clone(&self.front().batch);
        let connection = self.connection.as_mut().expect("it was made just now");
        parts::write_batch(connection, &batch, &self.blueprint, &mut self.size, &self.shared).await?;
        self.front_done();
        Ok(())
    }
}
