//! Writing while both databases are open: row by row, each change judged by the row that it finds.
//!
//! Each source transaction becomes one target transaction with a step of the checkpoint of its own. For each row of it the
//! target is asked, with the row locked, whether it is as it was before the change. Where it is not, somebody else has
//! changed it: the stream from the side that is the truth writes over it, the other one leaves it, and both record the
//! conflict in the same transaction. Rows are judged one after another, also those of one key: a change that was given up
//! must not make the next one look like the first.

use std::sync::Arc;

use tidegate_model::{Batch, Position, Problem, Span, Stream};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tracing::info;

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::executor::Executor;
use super::failure::{Failure, TooLarge};
use super::planning::Blueprint;
use super::reading::positioned_one;
use super::refusal;
use super::single_file::Head;
use crate::conflicts;
use crate::plan::{Contest, Found, verdict};
use crate::state::{self, Lease};

/// Rows planned ahead.
const AHEAD_MAX: usize = 32;

enum Item {
    Contest(Box<Contest>, Position),
    /// The end of a source transaction.
    End,
    /// The next change cannot be judged, or not be read.
    Failed(Problem),
}

impl Executor {
    pub(super) async fn write_arbitrated(&mut self) -> Result<(), Failure> {
        self.connection().await?;
        let connection = self.connection.as_mut().expect("it was made just now");
        let batch = Arc::clone(&self.jobs.front().expect("there is a batch to write").batch);
        let mut items = contests(&batch, &self.blueprint);
        let mut after = batch.span.after.clone();
        for (index, transaction) in batch.transactions.iter().enumerate() {
            let last = index + 1 == batch.transactions.len();
            let until = if last { &batch.span.until } else { &transaction.position };
            let span = Span { after, until: until.clone() };
            let head = Head { span, committed_at: Some(transaction.committed_at) };
            let rows = write_transaction(connection, &mut items, &head, &self.config.lease).await?;
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
fn contests(batch: &Arc<Batch>, blueprint: &Blueprint) -> mpsc::Receiver<Item> {
    let (out, items) = mpsc::channel(AHEAD_MAX);
    let (batch, blueprint) = (Arc::clone(batch), blueprint.clone());
    let work = move || {
        let mut planner = blueprint.planner();
        for index in 0..batch.transactions.len() {
            for change in positioned_one(&batch, index) {
                let contests = change.and_then(|(at, change)| Ok((planner.contests(&at, change)?, at)));
                let (contests, at) = match contests {
                    Ok(contests) => contests,
                    Err(problem) => return drop(out.blocking_send(Item::Failed(problem))),
                };
                for contest in contests {
                    if out.blocking_send(Item::Contest(Box::new(contest), at.clone())).is_err() {
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
/// back.
async fn write_transaction(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
    head: &Head,
    lease: &Lease,
) -> Result<u64, Failure> {
    let written = write(connection, items, head, lease).await;
    if written.is_err() {
        // A session that cannot roll back is lost, and with it the transaction.
        let _ = connection.roll_back().await;
    }
    match written {
        Err(Refused::Failure(failure)) => Err(whole(failure, head)),
        Err(Refused::Insert(contest, position, error)) => {
            Err(added_meanwhile(connection, &contest, &position, error).await)
        }
        Ok(rows) => Ok(rows),
    }
}

/// Why a transaction was not written.
enum Refused {
    Failure(Failure),
    /// A row could not be added where there was none a moment ago.
    Insert(Box<Contest>, Position, tokio_postgres::Error),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failure(failure)
    }
}

async fn write(
    connection: &mut Connection,
    items: &mut mpsc::Receiver<Item>,
    head: &Head,
    lease: &Lease,
) -> Result<u64, Refused> {
    let mut exchange = Exchange::default();
    connection.send_begin(&mut exchange, &head.span, head.committed_at).await;
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))?;
    let mut rows = 0;
    loop {
        match items.recv().await {
            Some(Item::Contest(contest, position)) => judge(connection, contest, position, lease, rows).await?,
            Some(Item::End) => break,
            Some(Item::Failed(problem)) => return Err(Failure::Final(problem).into()),
            None => {
                let problem = Problem::bug("AP059", "a planning thread ended early", "it did not say why");
                return Err(Failure::Final(problem).into());
            }
        }
        rows += 1;
    }
    let mut exchange = Exchange::default();
    connection.send_text(&mut exchange, Step::Commit, "COMMIT").await;
    exchange.outcome().await.map_err(|(step, error)| match connection.failure(step, error) {
        Failure::Refused(error) => Failure::Final(refusal::commit(&head.span.until, error)),
        other => other,
    })?;
    Ok(rows)
}

/// Asks for the row of a change, and writes what follows from the answer.
async fn judge(
    connection: &mut Connection,
    contest: Box<Contest>,
    position: Position,
    lease: &Lease,
    place: u64,
) -> Result<(), Refused> {
    let wins = lease.key.stream == Stream::Reverse;
    let refused = |connection: &Connection, error| match connection.failure(Step::Statement(0), error) {
        Failure::Refused(error) => Failure::Final(refusal::change(&contest.told(), &position, error)),
        other => other,
    };
    connection.next_round();
    let answer = connection.ask(&contest.probe).await.map_err(|error| refused(connection, error))?;
    let found = match &answer {
        None => Found::Nothing,
        Some(row) if row.get::<_, bool>(0) => Found::AsBefore,
        Some(_) => Found::Otherwise,
    };
    let verdict = verdict(contest.operation, found, wins);
    if let Some(statement) = contest.statement(verdict.action) {
        match connection.ask(statement).await {
            Ok(_) => {}
            Err(error) if found == Found::Nothing && error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                return Err(Refused::Insert(contest, position, error));
            }
            Err(error) => return Err(refused(connection, error).into()),
        }
    }
    if verdict.conflict {
        let found_position = answer.and_then(|row| row.try_get::<_, Option<String>>(1).ok().flatten());
        let (table, key) = conflicts::named(&contest, lease.key.stream);
        info!(stream = %lease.key.stream, %position, %table, operation = %contest.operation, "conflict");
        let (position, place) = (position.to_string(), i64::try_from(place).unwrap_or(i64::MAX));
        let operation = contest.operation.as_str();
        let found = conflicts::found_word(found);
        let sql: Arc<str> = conflicts::record_sql(lease).into();
        let recorded =
            connection.execute(&sql, &[&position, &place, &table, &key, &operation, &found, &found_position]).await;
        recorded.map_err(|error| match connection.failure(Step::Statement(0), error) {
            Failure::Refused(error) => Failure::Final(state::failed("record a conflict")(error)),
            other => other,
        })?;
    }
    Ok(())
}

/// Says what follows from a row that could not be added: somebody has added one of that key at the same moment, and the
/// change is judged again; or a constraint of another column is in the way, for good.
async fn added_meanwhile(
    connection: &mut Connection,
    contest: &Contest,
    position: &Position,
    error: tokio_postgres::Error,
) -> Failure {
    let asking = async {
        connection.begin().await?;
        let found = connection.ask(&contest.probe).await?;
        connection.roll_back().await?;
        Ok(found.is_some())
    };
    match asking.await {
        Ok(true) => Failure::Conflict("a row of that key was added at the same moment".to_owned()),
        Ok(false) => Failure::Final(refusal::change(&contest.told(), position, error)),
        Err(error) => connection.failure(Step::Begin, error),
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
