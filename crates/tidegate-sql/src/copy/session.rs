//! Sessions of the copy at the target, and transactions under the lease.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_connect::{LoadSession, Session, Settings};
use tidegate_model::{MigrationName, Problem};

use super::problem;
use crate::applier::{Mark, hide_from_feeds};
use crate::dialect::Dialect;
use crate::fence;
use crate::server_error::DIVISION_BY_ZERO;
use crate::state::{Lease, begin_sql, displaced};

/// How long CockroachDB keeps a transaction open whose client says nothing: nobody else could end it there.
const IDLE_SECONDS_MAX: u32 = 30;

/// Opens sessions and keeps those that are not in use.
#[derive(Clone, Debug)]
pub(super) struct Sessions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    name: MigrationName,
    lease: Lease,
    idle: Mutex<Vec<CopySession>>,
    loading: Mutex<Vec<LoadSession>>,
}

/// A session that loads tables.
#[derive(Debug)]
pub(super) struct CopySession {
    session: Session,
    /// Whether triggers and foreign keys do nothing in it.
    pub(super) is_replica: bool,
}

impl Deref for CopySession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Sessions {
    pub(super) fn new(settings: Settings, name: MigrationName, lease: Lease) -> Self {
        Sessions(Arc::new(Shared { settings, name, lease, idle: Mutex::default(), loading: Mutex::default() }))
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.0.lease
    }

    /// Returns what the target speaks.
    pub(super) async fn dialect(&self) -> Result<Dialect, Problem> {
        let session = self.take().await?;
        let dialect = Dialect::of(&session);
        self.give(session);
        Ok(dialect)
    }

    /// Returns a session that was in use before, or a new one.
    pub(super) async fn take(&self) -> Result<CopySession, Problem> {
        match self.take_idle() {
            Some(session) => Ok(session),
            None => self.open().await,
        }
    }

    fn take_idle(&self) -> Option<CopySession> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|session| !session.is_closed())
    }

    /// Keeps a session that is in no transaction.
    pub(super) fn give(&self, session: CopySession) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    async fn open(&self) -> Result<CopySession, Problem> {
        let session = Session::connect(&self.0.settings, &self.application_name()).await?;
        let is_replica = match Dialect::of(&session) {
            Dialect::Postgres => {
                // The server ends what a dead process of ours left running, an index being built for instance.
                try_to(&session, "SET client_connection_check_interval = '1s'").await?;
                // A table that is copied anew may stand behind the fence of a turn.
                let key = &self.0.lease.key;
                fence::let_through(&session, &key.schema, &key.migration).await?;
                try_to(&session, "SET session_replication_role = replica").await?
            }
            Dialect::Cockroach => {
                try_to(&session, &idle_sql()).await?;
                if let Some(hide) = hide_from_feeds(session.server()) {
                    session.batch_execute(hide).await.map_err(problem::target("open a session"))?;
                }
                false
            }
        };
        Ok(CopySession { session, is_replica })
    }

    /// Returns a session that loads rows at CockroachDB: one that was in use before, or a new one.
    pub(super) async fn take_loading(&self, like: &Session) -> Result<LoadSession, Problem> {
        let idle = self.0.loading.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(session) = idle {
            return Ok(session);
        }
        let mut session = LoadSession::connect(&self.0.settings, &self.application_name(), like.server()).await?;
        match session.query(&idle_sql()).await {
            Ok(_) => {}
            // A convenience: the server may not know it.
            Err(error) if error.sqlstate().is_some() => tracing::debug!(%error, "the target does without"),
            Err(error) => return Err(problem::not_loaded("open a session")(error)),
        }
        if let Some(hide) = hide_from_feeds(like.server()) {
            session.query(hide).await.map_err(problem::not_loaded("open a session"))?;
        }
        Ok(session)
    }

    /// Keeps a loading session that is in no transaction.
    pub(super) fn give_loading(&self, session: LoadSession) {
        if session.is_usable() {
            self.0.loading.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }

    fn application_name(&self) -> String {
        self.0.name.application_name("copy")
    }

    /// Returns what begins a transaction of PostgreSQL so that a stream the other way knows it as ours.
    pub(super) fn marked_begin_sql(&self) -> String {
        let mark = Mark::by_message(self.lease());
        format!("{}; {}", begin_sql(Dialect::Postgres), mark.first_statement().unwrap_or_default())
    }

    /// Begins a transaction of PostgreSQL that only the owner of the stream can have.
    pub(super) async fn begin(&self) -> Result<Transaction, Problem> {
        let session = self.take().await?;
        let sql = format!("{}; {}", self.marked_begin_sql(), self.lease().guard_sql(Dialect::Postgres));
        match session.batch_execute(&sql).await {
            Ok(()) => Ok(Transaction { session, sessions: self.clone() }),
            Err(error) if error.code().is_some_and(|state| state.code() == DIVISION_BY_ZERO) => {
                Err(displaced(self.lease()))
            }
            Err(error) => Err(problem::target("begin a transaction")(error)),
        }
    }
}

fn idle_sql() -> String {
    format!("SET idle_in_transaction_session_timeout = '{IDLE_SECONDS_MAX}s'")
}

/// Runs what the server may refuse, and returns whether it did not.
async fn try_to(session: &Session, sql: &str) -> Result<bool, Problem> {
    match session.batch_execute(sql).await {
        Ok(()) => Ok(true),
        Err(error) if error.as_db_error().is_some() => {
            tracing::debug!(error = %error, sql, "the target does without");
            Ok(false)
        }
        Err(error) => Err(problem::target("open a session")(error)),
    }
}

/// A transaction under the lease. Dropped without a commit it is rolled back, with its session.
#[derive(Debug)]
pub(super) struct Transaction {
    session: CopySession,
    sessions: Sessions,
}

impl Deref for Transaction {
    type Target = CopySession;

    fn deref(&self) -> &CopySession {
        &self.session
    }
}

impl Transaction {
    /// Commits. An error without an answer leaves open what happened: what is done in these transactions may be
    /// repeated.
    pub(super) async fn commit(self) -> Result<(), Problem> {
        self.session.batch_execute("COMMIT").await.map_err(problem::target("commit"))?;
        self.sessions.give(self.session);
        Ok(())
    }
}
