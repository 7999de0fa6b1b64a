//! Writes one batch after another, and goes on after whatever can be gone on after.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use tidegate_model::{Batch, Position, Problem, Span, TableRoute, Timestamp};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::ApplierConfig;
use super::backoff::Backoff;
use super::connection::{Backend, Connection};
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::job::{Job, Mode};
use super::progress::Shared;
use super::settle::settle;
use super::single_file::{self, Head};
use super::slices;
use crate::plan::SessionRights;
use crate::server_error;
use crate::state::displaced;

pub(super) struct Executor {
    config: ApplierConfig,
    routes: Vec<TableRoute>,
    rights: SessionRights,
    connection: Option<Connection>,
    /// The backend of the last connection.
    backend: Backend,
    input: mpsc::Receiver<Job>,
    /// Accepted and not durable, in order. A stretch at the front has been sent.
    jobs: VecDeque<Job>,
    /// The end of the last durable transaction.
    durable: Position,
    backoff: Backoff,
    shared: Arc<Shared>,
}

impl Executor {
    pub(super) fn new(
        config: ApplierConfig,
        routes: Vec<TableRoute>,
        connection: Connection,
        at: Position,
        input: mpsc::Receiver<Job>,
        shared: Arc<Shared>,
    ) -> Self {
        Executor {
            config,
            routes,
            rights: connection.rights(),
            backend: connection.backend().clone(),
            connection: Some(connection),
            input,
            jobs: VecDeque::new(),
            durable: at,
            backoff: Backoff::new(),
            shared,
        }
    }

    pub(super) async fn run_to_end(mut self) {
        let problem = self.run().await.err();
        self.shared.end(problem);
    }

    async fn run(&mut self) -> Result<(), Problem> {
        loop {
            let written = match self.jobs.front().map(|job| job.mode.clone()) {
                None => match self.input.recv().await {
                    Some(job) => {
                        self.jobs.push_back(job);
                        continue;
                    }
                    // The handle aborts this task before it lets the thread go.
                    None => return Err(Problem::bug("AP059", "the planning thread ended early", "see the log")),
                },
                Some(Mode::Folded(_)) => self.write_folded().await,
                Some(Mode::SourceOrder) => self.write_in_source_order().await,
                Some(Mode::Slices) => self.write_slices().await,
            };
            if let Err(failure) = written {
                self.recover(failure).await?;
            }
        }
    }

    /// Writes folded batches, several under way, until there are none or the first one is to be written otherwise.
    async fn write_folded(&mut self) -> Result<(), Failure> {
        loop {
            self.send_folded().await?;
            let Some(front) = self.jobs.front_mut() else { return Ok(()) };
            let Some(exchange) = &mut front.sent else { return Ok(()) };
            tokio::select! {
                biased;
                outcome = exchange.outcome() => match outcome {
                    Ok(()) => self.front_done(),
                    Err((step, error)) => {
                        // What is behind it fails by itself, at the compare-and-set. It is over before anything else
                        // is.
                        for job in &mut self.jobs {
                            if let Some(exchange) = &mut job.sent {
                                exchange.answered().await;
                            }
                        }
                        return Err(Failure::of(step, error));
                    }
                },
                Some(job) = self.input.recv() => self.jobs.push_back(job),
            }
        }
    }

    /// Sends the folded batches that have not been sent, up to the first one that is to be written otherwise.
    async fn send_folded(&mut self) -> Result<(), Failure> {
        if self.jobs.front().is_some_and(|job| job.sent.is_some()) && self.is_closed() {
            // What was sent is settled first.
            return Ok(());
        }
        for index in 0..self.jobs.len() {
            if self.jobs[index].sent.is_some() {
                continue;
            }
            if !matches!(self.jobs[index].mode, Mode::Folded(_)) {
                return Ok(());
            }
            if !self.prepare_folded(index).await? || !self.send_folded_job(index).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Prepares the statements of a batch. Returns false where one cannot be prepared, and leaves the batch to source
    /// order, which says why.
    async fn prepare_folded(&mut self, index: usize) -> Result<bool, Failure> {
        let Mode::Folded(plan) = self.jobs[index].mode.clone() else { return Ok(false) };
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it is there or was made just now");
        connection.next_round();
        for statement in &plan.statements {
            let Some(session) = connection.missing(&statement.sql) else { continue };
            let prepared = while_answers_come(&mut self.jobs, session.prepare(&statement.sql)).await;
            match prepared {
                Ok(prepared) => connection.keep(&statement.sql, prepared),
                Err(error) if server_error::is_transient(&error) => {
                    return Err(Failure::Interrupted(server_error::describe(&error)));
                }
                Err(_) => {
                    self.jobs[index].mode = Mode::SourceOrder;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Sends a batch, which is prepared: BEGIN, checkpoint, statements, COMMIT. Returns false where it could not be
    /// sent to its end; its answers then say why.
    async fn send_folded_job(&mut self, index: usize) -> bool {
        let Mode::Folded(plan) = self.jobs[index].mode.clone() else { return false };
        let batch = Arc::clone(&self.jobs[index].batch);
        let committed_at = last_committed_at(&batch);
        let mut exchange = Exchange::default();
        let connection = self.connection.as_mut().expect("the batch was prepared on it");
        let mut sent = connection.send_begin(&mut exchange, &batch.span, committed_at).await;
        for index in 0..plan.statements.len() {
            sent = sent && connection.send_planned(&mut exchange, &plan, index).await;
        }
        let end = if sent { "COMMIT" } else { "ROLLBACK" };
        sent &= connection.send_text(&mut exchange, Step::Commit, end).await;
        self.jobs[index].sent = Some(exchange);
        sent
    }

    async fn write_in_source_order(&mut self) -> Result<(), Failure> {
        if self.write_whole_in_source_order().await? {
            self.shared.show(|progress| progress.batches_in_source_order += 1);
            self.front_done();
            return Ok(());
        }
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        let front = self.jobs.front().expect("there is a batch to write");
        let batch = Arc::clone(&front.batch);
        info!(after = %batch.span.after, until = %batch.span.until, "writing a batch transaction by transaction");
        let mut items = single_file::transactions(&batch, self.routes.clone(), self.rights);
        let mut after = batch.span.after.clone();
        for (index, transaction) in batch.transactions.iter().enumerate() {
            let last = index + 1 == batch.transactions.len();
            let until = if last { &batch.span.until } else { &transaction.position };
            let span = Span { after, until: until.clone() };
            let head = Head { span, committed_at: Some(transaction.committed_at) };
            let rows = single_file::write_transaction(connection, &mut items, head).await?;
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
        self.jobs.pop_front();
        self.after_success();
        self.shared.batch_done();
        Ok(())
    }

    /// Writes the first batch in source order and in one transaction. Returns false where that is refused: one of its
    /// transactions will say why.
    async fn write_whole_in_source_order(&mut self) -> Result<bool, Failure> {
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        let batch = &self.jobs.front().expect("there is a batch to write").batch;
        if batch.transactions.len() < 2 {
            return Ok(false);
        }
        let mut items = single_file::whole(batch, self.routes.clone(), self.rights);
        let head = Head { span: batch.span.clone(), committed_at: last_committed_at(batch) };
        match single_file::write_transaction(connection, &mut items, head).await {
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

    async fn write_slices(&mut self) -> Result<(), Failure> {
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        let front = self.jobs.front().expect("there is a batch to write");
        let rows = slices::write_batch(connection, &front.batch, &self.routes, &self.shared).await?;
        self.shared.show(|progress| progress.rows += rows);
        self.front_done();
        Ok(())
    }

    /// The first batch is durable.
    fn front_done(&mut self) {
        let job = self.jobs.pop_front().expect("the first batch was under way");
        if let Mode::Folded(plan) = &job.mode {
            self.shared.show(|progress| progress.rows += plan.rows);
        }
        self.after_success();
        self.batch_durable(&job.batch);
    }

    fn batch_durable(&mut self, batch: &Batch) {
        debug!(until = %batch.span.until, transactions = batch.transactions.len(), "batch durable");
        self.durable = batch.span.until.clone();
        self.shared.show(|progress| {
            progress.applied = batch.span.until.clone();
            progress.committed_at = last_committed_at(batch).or(progress.committed_at);
            progress.transactions += batch.transactions.len() as u64;
        });
        self.shared.batch_done();
    }

    fn after_success(&mut self) {
        self.backoff.reset();
        self.shared.show(|progress| progress.retrying = None);
    }

    /// Finds out what is durable, however long that takes, and decides how the first batch that is not is written.
    async fn recover(&mut self, failure: Failure) -> Result<(), Problem> {
        // Nothing is under way any more: answers were waited for, or the connection is gone.
        self.jobs.iter_mut().for_each(|job| job.sent = None);
        let refused = matches!(failure, Failure::Refused(_));
        let overtaken = matches!(failure, Failure::Overtaken);
        let until = self.jobs.front().map(|job| job.batch.span.until.clone());
        self.wait_after(failure).await?;
        let before = self.durable.clone();
        while let Err(failure) = self.settle().await {
            self.wait_after(failure).await?;
        }
        if overtaken && self.durable == before {
            let why = format!("it stands at {before}, where the batch begins, and is ours");
            return Err(Problem::bug("AP053", "the checkpoint could not be moved although nothing is in the way", why));
        }
        match self.jobs.front_mut() {
            Some(front) if refused && Some(&front.batch.span.until) == until.as_ref() => front.go_to_source_order(),
            _ => Ok(()),
        }
    }

    async fn wait_after(&mut self, failure: Failure) -> Result<(), Problem> {
        match failure {
            Failure::Final(problem) => return Err(problem),
            Failure::Refused(error) => {
                debug!(error = %server_error::describe(&error), "folded batch refused, going to source order");
            }
            Failure::Overtaken => info!("the checkpoint has moved"),
            Failure::Interrupted(reason) => {
                warn!(error = %reason, "writing to the target was interrupted");
                self.shared.show(|progress| progress.retrying = Some(reason));
                self.backoff.pause().await;
            }
        }
        Ok(())
    }

    /// Reads the checkpoint and takes from the queue what is durable.
    async fn settle(&mut self) -> Result<(), Failure> {
        let lease = self.config.lease.clone();
        let row = self.connection().await?.read_settled(&lease).await?;
        let position = match row {
            Some(row) if row.epoch == lease.epoch => row.position,
            _ => return Err(Failure::Final(displaced(&lease))),
        };
        let Some(position) = position else {
            let problem =
                Problem::bug("AP053", "the checkpoint has no position any more", "only a new copy forgets it");
            return Err(Failure::Final(problem));
        };
        let batches: Vec<Arc<Batch>> = self.jobs.iter().map(|job| Arc::clone(&job.batch)).collect();
        let done = settle(&mut self.jobs, &position)?;
        batches.iter().take(done).for_each(|batch| self.batch_durable(batch));
        if self.durable != position {
            self.durable = position.clone();
            self.shared.show(|progress| progress.applied = position);
        }
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.connection.as_ref().is_none_or(Connection::is_closed)
    }

    /// Returns the connection, a new one where there is none or it is closed.
    async fn connection(&mut self) -> Result<&mut Connection, Failure> {
        if self.is_closed() {
            self.connection = None;
            let connection = Connection::open(&self.config, Some(&self.backend)).await?;
            if connection.rights() != self.rights {
                return Err(Failure::Final(rights_changed(self.rights)));
            }
            self.backend = connection.backend().clone();
            self.connection = Some(connection);
            info!("connected to the target again");
        }
        Ok(self.connection.as_mut().expect("it is there or was made just now"))
    }
}

/// Does `work` and takes the answers of batches under way meanwhile: the connection gives out the answer to `work` only
/// behind them.
async fn while_answers_come<T>(jobs: &mut VecDeque<Job>, work: impl Future<Output = T>) -> T {
    let answers = async {
        for exchange in jobs.iter_mut().filter_map(|job| job.sent.as_mut()) {
            exchange.answered().await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        never = answers => match never {},
        done = work => done,
    }
}

fn last_committed_at(batch: &Batch) -> Option<Timestamp> {
    batch.transactions.last().map(|transaction| transaction.committed_at)
}

fn rights_changed(before: SessionRights) -> Problem {
    let now = if before.foreign_keys_enforced { "granted" } else { "revoked" };
    Problem::definite(
        "AP060",
        "the right to set session_replication_role has changed while streaming",
        format!("it was {now} since this process started, and batches are planned by it"),
        "start again: tidegate migrate",
    )
}
