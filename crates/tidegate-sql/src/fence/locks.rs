//! Transactions that lock tables for a moment, again and again until they get their locks.

use std::time::Duration;

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem};
use tokio::time::{Instant, sleep};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::blockers::blockers;
use super::problem::{failed, too_late};
use super::{Blocker, OnWait};
use crate::server_error::DIVISION_BY_ZERO;

/// How often it is looked who is in the way.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two attempts, for the writers that waited behind the first.
const PAUSE: Duration = Duration::from_millis(100);
/// Where the role may say so, the server finds out sooner that only its own cleaning up is in the way, and ends it.
const YIELD_SOONER: &str = "SET deadlock_timeout = '100ms'";

/// Two sessions: one that locks, and one that sees who is in its way.
pub(super) struct Locker {
    session: Session,
    watch: Session,
    pid: i32,
    lock_timeout: Duration,
    until: Instant,
    /// How long to wait where only an autovacuum is in the way, which yields after `deadlock_timeout`.
    with_patience: Duration,
}

/// Why a transaction did not take place.
pub(super) enum Refused {
    /// Its first statement said that it must not.
    Guarded,
    Problem(Problem),
}

impl Locker {
    pub(super) async fn connect(
        settings: &Settings,
        name: &MigrationName,
        lock_timeout: Duration,
        until: Instant,
    ) -> Result<Locker, Problem> {
        let session = Session::connect(settings, &name.application_name("fence")).await?;
        let watch = Session::connect(settings, &name.application_name("fence-watch")).await?;
        // Not everybody may; then it takes a little longer.
        let _ = session.batch_execute(YIELD_SOONER).await;
        let sql = "SELECT pg_catalog.pg_backend_pid(), setting::int8 FROM pg_catalog.pg_settings \
                   WHERE name = 'deadlock_timeout'";
        let row = session.query_one(sql, &[]).await.map_err(failed("begin"))?;
        let deadlock_timeout = Duration::from_millis(u64::try_from(row.get::<_, i64>(1)).unwrap_or_default());
        let with_patience = lock_timeout.max(deadlock_timeout + Duration::from_millis(200));
        Ok(Locker { session, watch, pid: row.get(0), lock_timeout, until, with_patience })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Runs statements in one transaction, until it has its locks. What they do must bear to be done twice.
    pub(super) async fn run(&self, sql: &str, on_wait: OnWait<'_>) -> Result<(), Refused> {
        let mut seen: Vec<Blocker> = Vec::new();
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Refused::Problem(too_late(&seen)));
            }
            let is_patient = !seen.is_empty() && seen.iter().all(|blocker| blocker.is_autovacuum);
            let wait = if is_patient { self.with_patience } else { self.lock_timeout }.min(left);
            let Err(error) = self.attempt(sql, wait, &mut seen, on_wait).await else { return Ok(()) };
            // The transaction is over either way; where the connection is gone, so is it.
            let _ = self.session.batch_execute("ROLLBACK").await;
            match error.code() {
                Some(state) if state.code() == DIVISION_BY_ZERO => return Err(Refused::Guarded),
                Some(state) if is_waiting(state) => sleep(PAUSE.min(left)).await,
                _ => return Err(Refused::Problem(failed("lock the tables")(error))),
            }
        }
    }

    async fn attempt(
        &self,
        sql: &str,
        wait: Duration,
        seen: &mut Vec<Blocker>,
        on_wait: OnWait<'_>,
    ) -> Result<(), Error> {
        // A timeout of 0 would be none.
        let wait = wait.as_millis().max(1);
        let text =
            format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {wait}; {sql}; COMMIT");
        let attempt = self.session.batch_execute(&text);
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                done = &mut attempt => return done,
                () = sleep(LOOK_EVERY) => {
                    // Who is in the way is good to know, and no reason to fail.
                    let found = blockers(&self.watch, self.pid).await.unwrap_or_default();
                    if !found.is_empty() {
                        on_wait(&found);
                        *seen = found;
                    }
                }
            }
        }
    }
}

fn is_waiting(state: &SqlState) -> bool {
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(state)
}
