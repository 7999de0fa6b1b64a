//! Writing while both databases are open: row by row, each change judged by the row that it finds.
//!
//! Each source transaction becomes one target transaction with a step of the checkpoint of its own. For each row of it the
//! target is asked, with the row locked, whether it is as it was before the change. Where it is not, somebody else has
//! changed it: the stream from the side that is the truth writes over it, the other one leaves it, and both record the
//! conflict in the same transaction. Rows are judged one after another, also those of one key: a change that was given up
//! must not make the next one look like the first.
//!
//! Where the target refuses a row because of the keys of other rows, the transaction is begun again with patience: rows
//! that may wait for others do ([`patience`](super::patience)).

use std::sync::Arc;

use tidegate_model::{Batch, Position, Problem, Span, Stream};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::executor::Executor;
use super::failure::{Failure, TooLarge};
use super::job::Mode;
use super::patience::Patience;
use super::planning::Blueprint;
use super::reading::positioned_one;
use super::refusal;
use super::single_file::Head;
use crate::conflicts;
use crate::plan::{Contest, Found, verdict};
use crate::server_error;
use crate::state::{self, Lease};

/// Rows planned ahead.
const AHEAD_MAX: usize = 32;
/// What is said to have been found where the target's constraints refuse a change.
const CONSTRAINT: &str = "a constraint";

enum Item {
    Row(Box<Row>),
    /// The end of a source transaction.
    End,
    /// The next change cannot be judged, or not be read.
    Failed(Problem),
}

/// A row of a change, on its way to be judged.
pub(super) struct Row {
    pub(super) contest: Contest,
    pub(super) position: Position,
    /// Which row of its transaction.
    pub(super) place: i64,
}

impl Executor {
    pub(super) async fn write_arbitrated(&mut self, patient: bool) -> Result<(), Failure> {
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        let batch = Arc::clone(&self.jobs.front().expect("there is a batch to write").batch);
        let mut items = rows_of(&batch, &self.blueprint);
        let mut after = batch.span.after.clone();
        for (index, transaction) in batch.transactions.iter().enumerate() {
            let last = index + 1 == batch.transactions.len();
            let until = if last { &batch.span.until } else { &transaction.position };
            let span = Span { after, until: until.clone() };
            let head = Head { span, committed_at: Some(transaction.committed_at) };
            let rows = match write_transaction(connection, &mut items, &head, &self.config.lease, patient).await {
                Err(Failure::Refused(error)) if !patient => {
                    debug!(error = %server_error::describe(&error), "refused for other rows, to be written with patience");
                    let front = self.jobs.front_mut().expect("the first batch was under way");
                    front.resume_at(&self.durable);
                    front.mode = Mode::Arbitrated { patient: true };
                    return Ok(());
                }
                written => written?,
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
        let job = self.jobs.pop_front().expect("the first batch was under way");
        self.after_success();
        self.job_done(&job);
        Ok(())
    }
}

/// Takes the changes of a batch apart, on a thread of its own that ends with the receiver.
fn rows_of(batch: &Arc<Batch>, blueprint: &Blueprint) -> mpsc::Receiver<Item> {
    let (out, items) = mpsc::channel(AHEAD_MAX);
    let (batch, blueprint) = (Arc::clone(batch), blueprint.clone());
    let work = move || {
        let mut planner = blueprint.planner();
        for index in 0..batch.transactions.len() {
            let mut places = 0..;
            for change in positioned_one(&batch, index) {
                let contests = change.and_then(|(at, change)| Ok((planner.contests(&at, change)?, at)));
                let (contests, at) = match contests {
                    Ok(contests) => contests,
                    Err(problem) => return drop(out.blocking_send(Item::Failed(problem))),
                };
                for (contest, place) in contests.into_iter().zip(&mut places) {
                    let row = Row { contest, position: at.clone(), place };
                    if out.blocking_send(Item::Row(Box::new(row))).is_err() {
                        return;
                    }
                }
            }
            if out.blocking_send(Item::End).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("tidegate-contest".to_owned()).spawn(work).expect("the system starts threads");
    items
}

/// Writes one source transaction, from BEGIN to COMMIT, and returns how many rows it was about. A failed one is rolled
/// back. Without patience it is refused where a row is, because of the keys of other rows.
async fn write_transaction(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
    head: &Head,
    lease: &Lease,
    patient: bool,
) -> Result<u64, Failure> {
    let written = write(connection, items, head, lease, patient).await;
    if written.is_err() {
        // A session that cannot roll back is lost, and with it the transaction.
        let _ = connection.roll_back().await;
    }
    written.map_err(|failure| whole(failure, head))
}

async fn write(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
    head: &Head,
    lease: &Lease,
    patient: bool,
) -> Result<u64, Failure> {
    let mut exchange = Exchange::default();
    connection.send_begin(&mut exchange, &head.span, head.committed_at).await;
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))?;
    let (mut rows, mut patience) = (0, patient.then(Patience::default));
    loop {
        match (items.recv().await, &mut patience) {
            (Some(Item::Row(row)), None) => judge(connection, &row, lease).await?,
            (Some(Item::Row(row)), Some(patience)) => patience.judge(connection, *row, lease).await?,
            (Some(Item::End), _) => break,
            (Some(Item::Failed(problem)), _) => return Err(Failure::Final(problem)),
            (None, _) => {
                let problem = Problem::bug("AP059", "a planning thread ended early", "it did not say why");
                return Err(Failure::Final(problem));
            }
        }
        rows += 1;
    }
    if let Some(patience) = patience {
        patience.end(connection, lease).await?;
    }
    let mut exchange = Exchange::default();
    connection.send_text(&mut exchange, Step::Commit, "COMMIT").await;
    exchange.outcome().await.map_err(|(step, error)| match connection.failure(step, error) {
        Failure::Refused(error) => Failure::Final(refusal::commit(&head.span.until, error)),
        other => other,
    })?;
    Ok(rows)
}

/// Returns whether the stream's source is the truth: its changes are written whatever they find.
pub(super) fn wins(lease: &Lease) -> bool {
    lease.key.stream == Stream::Reverse
}

/// Asks for the row of a change, and writes what follows from the answer. Refused where the keys of other rows are in the
/// way.
pub(super) async fn judge(connection: &mut Connection, row: &Row, lease: &Lease) -> Result<(), Failure> {
    let contest = &row.contest;
    connection.next_round();
    let answer = connection.ask(&contest.probe).await.map_err(|error| refused(connection, row, error))?;
    let found = match &answer {
        None => Found::Nothing,
        Some(answer) if answer.get::<_, bool>(0) => Found::AsBefore,
        Some(_) => Found::Otherwise,
    };
    let verdict = verdict(contest.operation, found, wins(lease));
    if let Some(statement) = contest.statement(verdict.action) {
        connection.ask(statement).await.map_err(|error| refused(connection, row, error))?;
    }
    if verdict.conflict {
        let when = answer.and_then(|answer| answer.try_get::<_, Option<String>>(1).ok().flatten());
        record(connection, row, lease, conflicts::found_word(found), when).await?;
    }
    Ok(())
}

/// Leaves a row as it is because the target's constraints refuse what the change makes of it.
pub(super) async fn leave(connection: &mut Connection, row: &Row, lease: &Lease) -> Result<(), Failure> {
    record(connection, row, lease, CONSTRAINT, None).await
}

async fn record(
    connection: &mut Connection,
    row: &Row,
    lease: &Lease,
    found: &str,
    found_position: Option<String>,
) -> Result<(), Failure> {
    let (table, key) = conflicts::named(&row.contest, lease.key.stream);
    let (position, operation) = (row.position.to_string(), row.contest.operation.as_str());
    info!(stream = %lease.key.stream, position, table, operation, found, "conflict");
    let sql: Arc<str> = conflicts::record_sql(lease).into();
    let recorded =
        connection.execute(&sql, &[&position, &row.place, &table, &key, &operation, &found, &found_position]).await;
    recorded.map_err(|error| match connection.failure(Step::Statement(0), error) {
        Failure::Refused(error) => Failure::Final(state::failed("record a conflict")(error)),
        other => other,
    })
}

fn refused(connection: &Connection, row: &Row, error: tokio_postgres::Error) -> Failure {
    match connection.failure(Step::Statement(0), error) {
        Failure::Refused(error) if !refusal::names_keys(&error) => {
            Failure::Final(refusal::change(&row.contest.told(), &row.position, error))
        }
        other => other,
    }
}

/// A transaction is judged as a whole: one that is too large is not cut.
fn whole(failure: Failure, head: &Head) -> Failure {
    match failure {
        Failure::TooLarge(TooLarge { reason, for_good: true }) => {
            Failure::Final(refusal::too_large(&head.span.until, 0, reason))
        }
        Failure::TooLarge(TooLarge { reason, for_good: false }) => Failure::Interrupted(reason),
        other => other,
    }
}
