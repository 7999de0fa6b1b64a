//! Writes one batch after another, and goes on after whatever can be gone on after.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use tidegate_model::{Batch, Position, Problem, Timestamp};
use tokio::sync::mpsc;
use tracing::debug;

use super::ApplierConfig;
use super::backoff::Backoff;
use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::job::{Job, Mode};
use super::planning::{Blueprint, plan_piece};
use super::progress::Shared;
use super::session::Backend;
use super::size::Size;

pub(super) struct Executor {
    pub(super) config: ApplierConfig,
    pub(super) blueprint: Blueprint,
    pub(super) connection: Option<Connection>,
    /// The backend of the last connection.
    pub(super) backend: Option<Backend>,
    input: mpsc::Receiver<Job>,
    /// Accepted and not durable, in order. A stretch at the front has been sent.
    pub(super) jobs: VecDeque<Job>,
    /// The end of the last durable transaction.
    pub(super) durable: Position,
    pub(super) backoff: Backoff,
    pub(super) size: Size,
    pub(super) shared: Arc<Shared>,
}

impl Executor {
    pub(super) fn new(
        config: ApplierConfig,
        blueprint: Blueprint,
        connection: Connection,
        at: Position,
        input: mpsc::Receiver<Job>,
        shared: Arc<Shared>,
    ) -> Self {
        Executor {
            config,
            blueprint,
            backend: connection.backend().cloned(),
            connection: Some(connection),
            input,
            jobs: VecDeque::new(),
            durable: at,
            backoff: Backoff::new(),
            size: Size::default(),
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
                Some(Mode::Folded(_) | Mode::Unplanned) => self.write_folded().await,
                Some(Mode::SourceOrder) => self.write_in_source_order().await,
                Some(Mode::Slices) => self.write_slices().await,
                Some(Mode::Parts) => self.write_parts().await,
                Some(Mode::Arbitrated { patient }) => self.write_arbitrated(patient).await,
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
                        return Err(self.failure(step, error));
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
        let mut index = 0;
        while index < self.jobs.len() {
            if self.jobs[index].sent.is_none() {
                self.fit(index).await?;
                if !matches!(self.jobs[index].mode, Mode::Folded(_)) {
                    return Ok(());
                }
                if !self.prepare_folded(index).await? || !self.send_folded_job(index).await {
                    return Ok(());
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// Cuts a job that has more rows than the target takes at present, and makes the plan of one that has none.
    async fn fit(&mut self, index: usize) -> Result<(), Failure> {
        let foldable = |job: &Job| matches!(job.mode, Mode::Folded(_) | Mode::Unplanned);
        if let Some(rows_max) = self.size.rows_max()
            && foldable(&self.jobs[index])
            && self.jobs[index].changes().is_some_and(|rows| rows > rows_max)
        {
            let job = self.jobs.remove(index).expect("the index is of a job");
            for piece in job.cut(rows_max, |_| false).into_iter().rev() {
                self.jobs.insert(index, piece);
            }
        }
        if matches!(self.jobs[index].mode, Mode::Unplanned) {
            let batch = Arc::clone(&self.jobs[index].batch);
            let planned = while_answers_come(&mut self.jobs, plan_piece(&self.blueprint, &batch)).await;
            self.jobs[index].mode = planned?;
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
        for (number, statement) in plan.statements.iter().enumerate() {
            let Some(session) = connection.missing(&statement.sql) else { continue };
            let prepared = while_answers_come(&mut self.jobs, session.prepare(&statement.sql)).await;
            match prepared.map_err(|error| connection.failure(Step::Statement(number), error)) {
                Ok(prepared) => connection.keep(&statement.sql, prepared),
                Err(Failure::Refused(_)) => {
                    self.jobs[index].mode = Mode::SourceOrder;
                    return Ok(false);
                }
                Err(failure) => return Err(failure),
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

    pub(super) fn front(&self) -> &Job {
        self.jobs.front().expect("there is a batch to write")
    }

    /// The first batch is durable.
    pub(super) fn front_done(&mut self) {
        let job = self.jobs.pop_front().expect("the first batch was under way");
        if let Mode::Folded(plan) = &job.mode {
            self.shared.show(|progress| progress.rows += plan.rows);
        }
        if let Some(rows) = job.changes() {
            self.size.grow(rows);
        }
        self.after_success();
        self.job_durable(&job);
    }

    pub(super) fn job_durable(&mut self, job: &Job) {
        let batch = &job.batch;
        debug!(until = %batch.span.until, transactions = batch.transactions.len(), "batch durable");
        self.durable = batch.span.until.clone();
        self.shared.show(|progress| {
            progress.applied = batch.span.until.clone();
            progress.committed_at = last_committed_at(batch).or(progress.committed_at);
            progress.transactions += batch.transactions.len() as u64;
            progress.giant = None;
        });
        self.job_done(job);
    }

    pub(super) fn job_done(&self, job: &Job) {
        if job.ends_batch {
            self.shared.batch_done();
        }
    }

    pub(super) fn after_success(&mut self) {
        self.backoff.reset();
        let rows_max = self.size.rows_max();
        self.shared.show(|progress| {
            progress.retrying = None;
            progress.rows_per_transaction_max = rows_max;
        });
    }

    pub(super) fn failure(&self, step: Step, error: tokio_postgres::Error) -> Failure {
        Failure::of(self.blueprint.dialect, step, error)
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

pub(super) fn last_committed_at(batch: &Batch) -> Option<Timestamp> {
    batch.transactions.last().map(|transaction| transaction.committed_at)
}
