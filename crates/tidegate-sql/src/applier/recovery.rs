//! What follows from a batch that was not written: finding out what is durable, and how to go on.

use std::sync::atomic::Ordering;

use tidegate_model::Problem;
use tokio_postgres::error::SqlState;
use tracing::{debug, info, warn};

use super::connection::Connection;
use super::executor::Executor;
use super::failure::Failure;
use super::job::{Job, Mode};
use super::settle::settle;
use crate::plan::SessionRights;
use crate::server_error;
use crate::state::displaced;

/// Changes that a transaction on disk is taken to have been tried with.
const ON_DISK: u64 = super::reading::SLICE.changes;

impl Executor {
    /// Finds out what is durable, however long that takes, and decides how the first batch that is not is written.
    pub(super) async fn recover(&mut self, failure: Failure) -> Result<(), Problem> {
        // Nothing is under way any more: answers were waited for, or the connection is gone.
        self.jobs.iter_mut().for_each(|job| job.sent = None);
        let refused = matches!(failure, Failure::Refused(_));
        let overtaken = matches!(failure, Failure::Overtaken);
        let too_large = matches!(failure, Failure::TooLarge(_));
        if let Failure::Refused(error) = &failure
            && error.code() == Some(&SqlState::UNIQUE_VIOLATION)
        {
            self.blueprint.unique_refused.store(true, Ordering::Relaxed);
        }
        let until = self.jobs.front().map(|job| job.batch.span.until.clone());
        self.measure(&failure);
        self.wait_after(failure).await?;
        let before = self.durable.clone();
        while let Err(failure) = self.settle().await {
            self.wait_after(failure).await?;
        }
        if overtaken && self.durable == before {
            let why = format!("it stands at {before}, where the batch begins, and is ours");
            return Err(Problem::bug("AP053", "the checkpoint could not be moved although nothing is in the way", why));
        }
        if self.durable != before {
            // What the failure left open has got on.
            self.after_success();
        }
        match self.jobs.front_mut() {
            Some(front) if Some(&front.batch.span.until) != until.as_ref() => Ok(()),
            Some(front) if refused => front.go_to_source_order(),
            Some(_) if too_large => {
                self.make_smaller();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Draws conclusions about the size of transactions. One that is written in parts has done so itself.
    fn measure(&mut self, failure: &Failure) {
        let Some(front) = self.jobs.front().filter(|front| !matches!(front.mode, Mode::Parts)) else { return };
        let rows = front.changes().unwrap_or(ON_DISK);
        match failure {
            Failure::TooLarge(_) => self.size.shrink(rows),
            Failure::Conflict(_) if self.blueprint.dialect.is_cockroach() => self.size.conflict(rows),
            _ => {}
        }
        let rows_max = self.size.rows_max();
        self.shared.show(|progress| progress.rows_per_transaction_max = rows_max);
    }

    /// Cuts the first batch, which was too large; a source transaction that is too large by itself is written in parts.
    fn make_smaller(&mut self) {
        let front = self.jobs.pop_front().expect("a batch was too large");
        let rows_max = self.size.rows_max().unwrap_or(u64::MAX);
        let pieces = if matches!(front.mode, Mode::Parts) { vec![front] } else { front.cut(rows_max, |_| false) };
        let alone = pieces.len() == 1;
        for piece in pieces.into_iter().rev() {
            let has_rows = !piece.batch.transactions.is_empty();
            let mode = if alone && has_rows { Mode::Parts } else { piece.mode.clone() };
            self.jobs.push_front(Job { mode, ..piece });
        }
    }

    async fn wait_after(&mut self, failure: Failure) -> Result<(), Problem> {
        match failure {
            Failure::Final(problem) | Failure::Apart(problem) => return Err(problem),
            Failure::Refused(error) => {
                debug!(error = %server_error::describe(&error), "folded batch refused, going to source order");
            }
            Failure::Overtaken => info!("the checkpoint has moved"),
            Failure::Conflict(reason) => {
                debug!(error = %reason, "a transaction of the target was in the way");
                self.shared.show(|progress| progress.retrying = Some(reason));
                self.backoff.pause_after_conflict().await;
            }
            Failure::TooLarge(too_large) => {
                info!(error = %too_large.reason, rows_max = self.size.rows_max(), "the target takes less at once");
                self.shared.show(|progress| progress.retrying = Some(too_large.reason));
                self.backoff.pause_after_conflict().await;
            }
            Failure::Stale(reason) => {
                info!(error = %reason, "statements are prepared anew");
                self.connection = None;
                self.backoff.pause_after_conflict().await;
            }
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
        settle(&mut self.jobs, &position)?.iter().for_each(|job| self.job_durable(job));
        if self.durable != position {
            self.durable = position.clone();
            self.shared.show(|progress| progress.applied = position);
        }
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.as_ref().is_none_or(Connection::is_closed)
    }

    /// Returns the connection, a new one where there is none or it is closed.
    pub(super) async fn connection(&mut self) -> Result<&mut Connection, Failure> {
        if self.is_closed() {
            self.connection = None;
            let connection = Connection::open(&self.config, self.backend.as_ref()).await?;
            if (connection.rights(), connection.dialect()) != (self.blueprint.rights, self.blueprint.dialect) {
                return Err(Failure::Final(rights_changed(self.blueprint.rights)));
            }
            self.backend = connection.backend().cloned();
            self.connection = Some(connection);
            info!("connected to the target again");
        }
        Ok(self.connection.as_mut().expect("it is there or was made just now"))
    }
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
