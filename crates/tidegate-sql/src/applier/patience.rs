//! Rows that the target refuses because of the keys of other rows, while both databases are open.
//!
//! What is in the way may be about to go with the same transaction: of a source that tells no order any row may wait for
//! the others; of one that does, a removal may wait for the removal of what refers to it, because a cascade removes the
//! parent first. Nothing else may wait, but for what changes a row of which something waits already: of two changes of one
//! row the later must stay the later. Each row is judged behind a savepoint. What is still refused at the end collides with
//! what the target's own applications have made: the stream whose source is not the truth leaves it and records a conflict;
//! the other one stops, for its row has to be written.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::arbitration::{Row, judge, leave, wins};
use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::refusal;
use crate::plan::Operation;
use crate::state::Lease;

/// The rows of a transaction that wait for others.
#[derive(Default)]
pub(super) struct Patience {
    waiting: Vec<Row>,
}

impl Patience {
    /// Judges a row, now or later.
    pub(super) async fn judge(&mut self, connection: &mut Connection, row: Row, lease: &Lease) -> Result<(), Failure> {
        if self.waits_for_same(&row) {
            while self.again(connection, lease).await? {}
            if self.waits_for_same(&row) {
                self.waiting.push(row);
                return Ok(());
            }
        }
        let Some(error) = attempt(connection, &row, lease).await? else { return Ok(()) };
        if may_wait(&row, &error) {
            self.waiting.push(row);
            return Ok(());
        }
        // A row that waits for its removal may be in the way.
        while self.again(connection, lease).await? {}
        give_up(connection, row, lease).await
    }

    /// Judges what waits, for as long as that gets on, and gives up what is left.
    pub(super) async fn end(mut self, connection: &mut Connection, lease: &Lease) -> Result<(), Failure> {
        while self.again(connection, lease).await? {}
        for row in self.waiting {
            give_up(connection, row, lease).await?;
        }
        Ok(())
    }

    /// Judges what waits once more, and returns whether any of it was written.
    async fn again(&mut self, connection: &mut Connection, lease: &Lease) -> Result<bool, Failure> {
        let before = self.waiting.len();
        for row in std::mem::take(&mut self.waiting) {
            if self.waits_for_same(&row) || attempt(connection, &row, lease).await?.is_some() {
                self.waiting.push(row);
            }
        }
        Ok(self.waiting.len() < before)
    }

    /// Tells whether an earlier change of the same row waits.
    fn waits_for_same(&self, row: &Row) -> bool {
        let (table, key) = (&row.contest.target, &row.contest.key);
        self.waiting.iter().any(|earlier| earlier.contest.target == *table && earlier.contest.key == *key)
    }
}

fn may_wait(row: &Row, error: &Error) -> bool {
    let is_referred_to =
        row.contest.operation == Operation::Delete && error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION);
    row.position.hlc().is_some() || is_referred_to
}

/// Judges a row behind a savepoint. Returns why it was refused, if it was and has left nothing behind.
async fn attempt(connection: &mut Connection, row: &Row, lease: &Lease) -> Result<Option<Error>, Failure> {
    text(connection, "SAVEPOINT slice").await?;
    match judge(connection, row, lease).await {
        Ok(()) => text(connection, "RELEASE SAVEPOINT slice").await.map(|()| None),
        Err(Failure::Refused(error)) => {
            text(connection, "ROLLBACK TO SAVEPOINT slice").await?;
            Ok(Some(error))
        }
        Err(failure) => Err(failure),
    }
}

async fn give_up(connection: &mut Connection, row: Row, lease: &Lease) -> Result<(), Failure> {
    // Somebody may have added a row of that key at the same moment, which is then found.
    let Some(error) = attempt(connection, &row, lease).await? else { return Ok(()) };
    match wins(lease) {
        true => Err(Failure::Final(refusal::change(&row.contest.told(), &row.position, error))),
        false => leave(connection, &row, lease).await,
    }
}

/// Sends a text and waits for its answer.
async fn text(connection: &mut Connection, sql: &str) -> Result<(), Failure> {
    let mut exchange = Exchange::default();
    connection.send_text(&mut exchange, Step::Savepoint, sql).await;
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))
}
