//! The reader: owns the connection of the feed and gives what comes to the decoder.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tidegate_connect::{Server, Session};
use tidegate_model::{Class, Hlc, Position, Problem, TableName};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::decoder::Input;
use super::feed::{Feed, is_resolved, weight};
use super::watchdog::Watchdog;
use super::{Received, SourceConfig, refusal};
use crate::catalog::Present;
use crate::history::{self, History};
use crate::queue::{Closed, Giver};
use crate::statement::Changefeed;

/// Waits between attempts to reconnect: from the first to the last, doubled each time, and up to a half longer, so that
/// many streams do not come back at once.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long a cancel request may take; without it the server notices the closed connection a moment later.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);

/// How reading came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to, or nobody decodes any more.
    Stopped,
    /// It cannot go on.
    Failed(Problem),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Ended::Failed(problem)
    }
}

impl From<Closed> for Ended {
    fn from(Closed: Closed) -> Self {
        Ended::Stopped
    }
}

pub(super) struct Reader {
    config: SourceConfig,
    tables: Vec<TableName>,
    history: History,
    /// Up to where everything was given out.
    emitted: watch::Receiver<Hlc>,
    input: Giver<Input>,
    received: watch::Sender<Received>,
    stop: CancellationToken,
    /// Made before the reader runs.
    first: Option<Session>,
    watchdog: Watchdog,
    /// Attempts that failed since something last came.
    failures: u32,
    /// Whether a feed was given up for its silence, and none has resolved a time since.
    silent: bool,
}

impl Reader {
    pub(super) fn new(
        config: SourceConfig,
        history: History,
        emitted: watch::Receiver<Hlc>,
        input: Giver<Input>,
        received: watch::Sender<Received>,
        stop: CancellationToken,
    ) -> Self {
        let tables = config.tables.iter().map(|table| table.table.name.clone()).collect();
        let watchdog = Watchdog::new(config.resolved_silence_max, Instant::now());
        Reader {
            config,
            tables,
            history,
            emitted,
            input,
            received,
            stop,
            first: None,
            watchdog,
            failures: 0,
            silent: false,
        }
    }

    /// Returns the queue that the reader fills.
    pub(super) fn input(&self) -> Giver<Input> {
        self.input.clone()
    }

    /// Connects for the first time.
    pub(super) async fn connect_first(&mut self) -> Result<(), Problem> {
        self.first = Some(self.greet().await?);
        Ok(())
    }

    /// Reads until it is stopped or cannot go on.
    pub(super) async fn run(mut self) -> Ended {
        let stop = self.stop.clone();
        loop {
            let interrupted = match self.connected().await {
                Ok(session) => {
                    let ended = self.stream(&session).await;
                    if stop.is_cancelled() {
                        end_feed(session).await;
                    }
                    ended
                }
                Err(ended) => ended,
            };
            match interrupted {
                Ended::Failed(problem) if problem.class == Class::Transient => {
                    self.waits_because(&problem);
                    tokio::select! {
                        () = sleep(self.back_off()) => {}
                        () = stop.cancelled() => return Ended::Stopped,
                    }
                }
                ended => return ended,
            }
        }
    }

    async fn connected(&mut self) -> Result<Session, Ended> {
        if let Some(session) = self.first.take() {
            return Ok(session);
        }
        tokio::select! {
            () = self.stop.cancelled() => Err(Ended::Stopped),
            session = self.greet() => Ok(session?),
        }
    }

    /// Connects and asks the server whether it can go on where we are.
    async fn greet(&self) -> Result<Session, Problem> {
        let session = Session::connect(&self.config.settings, &self.config.application_name("feed")).await?;
        let at = Position::cockroach(self.cursor());
        history::verify(&session, &self.config.name, &self.history, &at, &self.tables).await?;
        self.verify_tables(&session).await?;
        Ok(session)
    }

    /// Refuses tables that are not those of the stream any more. What was dropped the server refuses by itself.
    async fn verify_tables(&self, session: &Session) -> Result<(), Problem> {
        let carried = self.config.tables.iter().map(|table| &*table.table);
        Present::read(session).await?.verify(&self.config.name, carried).map(drop)
    }

    /// The names were resolved when the feed was made: what was exchanged just before is seen now. The session of the
    /// feed can answer nothing else.
    async fn verify_opened(&self) -> Result<(), Problem> {
        let session = Session::connect(&self.config.settings, &self.config.application_name("opened")).await?;
        let verified = self.verify_tables(&session).await;
        session.close().await;
        verified
    }

    /// Where the next feed begins. The decoder may be further when the feed's first rows reach it, and drops what it
    /// has given out by then.
    fn cursor(&self) -> Hlc {
        *self.emitted.borrow()
    }

    async fn stream(&mut self, session: &Session) -> Ended {
        let Server::Cockroach(version) = session.server() else {
            return Problem::bug("CR003", "the source is no CockroachDB", "it was one a moment ago").into();
        };
        let cursor = self.cursor();
        let sql = Changefeed {
            database: &self.history.database,
            tables: self.tables.iter().collect(),
            cursor,
            resolved_every: self.config.resolved_every,
        }
        .sql(version);
        self.watchdog.begin(Instant::now());
        // The server answers with the first row, which may take as long as a resolved timestamp.
        let opening = session.query_raw(&sql, std::iter::empty::<&(dyn ToSql + Sync)>());
        let mut feed = tokio::select! {
            () = self.stop.cancelled() => return Ended::Stopped,
            () = sleep_until(self.watchdog.deadline()) => return self.silent(),
            opened = opening => match opened {
                Ok(rows) => Feed::new(rows),
                Err(error) => return refusal::interrupted(&self.config.name, cursor, error).into(),
            },
        };
        let verified = tokio::select! {
            () = self.stop.cancelled() => return Ended::Stopped,
            verified = self.verify_opened() => verified,
        };
        if let Err(problem) = verified {
            return problem.into();
        }
        info!(%cursor, tables = self.tables.len(), server = %version, "changefeed opened");
        if let Err(ended) = self.give(Input::Connected, 0).await {
            return ended;
        }
        loop {
            let rows = tokio::select! {
                () = self.stop.cancelled() => return Ended::Stopped,
                () = sleep_until(self.watchdog.deadline()) => return self.silent(),
                rows = feed.next() => rows,
            };
            let taken = match rows {
                Ok(rows) => self.take(rows).await,
                Err(None) => Err(refusal::server_finished().into()),
                Err(Some(error)) => Err(refusal::interrupted(&self.config.name, self.cursor(), error).into()),
            };
            if let Err(ended) = taken {
                return ended;
            }
        }
    }

    /// Takes note of what the rows say about the feed, and passes them on.
    async fn take(&mut self, rows: Vec<Row>) -> Result<(), Ended> {
        if rows.iter().any(is_resolved) {
            self.watchdog.resolved(Instant::now());
            self.silent = false;
        }
        self.failures = 0;
        self.received.send_modify(|received| {
            received.heard_at = Some(SystemTime::now());
            // Rows alone change nothing: it is a resolved timestamp that is missing.
            if !self.silent {
                received.waiting_for = None;
            }
        });
        let bytes = rows.iter().map(weight).sum();
        self.give(Input::Rows(rows), bytes).await
    }

    async fn give(&mut self, input: Input, bytes: u64) -> Result<(), Ended> {
        let room = match self.input.room(bytes).now_or_never() {
            Some(room) => room?,
            None => {
                let room = tokio::select! {
                    room = self.input.room(bytes) => room?,
                    () = self.stop.cancelled() => return Err(Ended::Stopped),
                };
                // Silence of our own making: nothing was read meanwhile.
                self.watchdog.paused(Instant::now());
                room
            }
        };
        Ok(self.input.give(input, room)?)
    }

    fn silent(&mut self) -> Ended {
        let seconds = self.watchdog.patience().as_secs_f64();
        self.watchdog.give_up();
        self.silent = true;
        refusal::silent(seconds).into()
    }

    fn waits_because(&mut self, problem: &Problem) {
        let reason = format!("{}: {}", problem.what, problem.why);
        // Once for each reason, not for each attempt.
        if self.received.borrow().waiting_for.as_ref() != Some(&reason) {
            warn!(code = problem.code, error = reason, "stream interrupted, trying again");
        }
        self.received.send_modify(|received| received.waiting_for = Some(reason));
    }

    fn back_off(&mut self) -> Duration {
        let [first, last] = BACK_OFF;
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(last);
        self.failures += 1;
        wait.mul_f64(1.0 + fastrand::f64() / 2.0)
    }
}

/// Tells the server that nobody reads any more.
async fn end_feed(session: Session) {
    if timeout(CANCEL_TIMEOUT, session.cancel()).await.is_err() {
        tracing::debug!("cancel request took too long");
    }
    session.close().await;
}
