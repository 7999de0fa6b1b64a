//! What the stand-in does itself: transactions, settings, errors on demand.

use super::transaction::{RESTART_SAVEPOINT, Restart, Transaction};
use super::{Portal, Session};
use crate::dialect::{Action, Rewritten};
use crate::error::SqlError;
use crate::history;
use crate::wire::answer;

/// `inject_retry_errors_enabled` lets a transaction through after so many errors.
const INJECTED_MAX: u32 = 3;

impl Session {
    /// Does what a statement asks of the stand-in; gives the command tag.
    pub async fn act(
        &mut self,
        rewritten: &Rewritten,
        portal: Option<&Portal>,
    ) -> anyhow::Result<Result<String, SqlError>> {
        if self.transaction.restart == Restart::Released && !matches!(rewritten.action, Action::Commit) {
            return Ok(Err(committed()));
        }
        match &rewritten.action {
            Action::Begin { sql, as_of } => self.begin(sql, as_of.as_deref()).await,
            Action::Commit => self.commit().await,
            Action::Rollback => self.rollback().await,
            Action::Savepoint(name) => self.savepoint(name).await,
            Action::Release(name) => self.release(name).await,
            Action::RollbackTo(name) => self.rollback_to(name).await,
            Action::ReadAsOf(text) => self.read_as_of(text).await,
            Action::Nothing(tag) => Ok(Ok(tag.clone())),
            _ => self.act_besides(rewritten, portal).await,
        }
    }

    async fn begin(&mut self, sql: &str, as_of: Option<&str>) -> anyhow::Result<Result<String, SqlError>> {
        if self.transaction.client_status() != b'I' {
            return Ok(Err(SqlError::new("25001", "there is already a transaction in progress")));
        }
        let at = match as_of {
            None => None,
            Some(text) => match self.read_point(text).await? {
                Ok(at) => Some(at),
                Err(error) => return Ok(Err(error)),
            },
        };
        if let Err(error) = self.own(sql, &[]).await? {
            return Ok(Err(error));
        }
        self.transaction = Transaction { status: b'T', as_of: at, begin_sql: sql.to_owned(), ..Transaction::default() };
        Ok(Ok("BEGIN".to_owned()))
    }

    async fn read_as_of(&mut self, text: &str) -> anyhow::Result<Result<String, SqlError>> {
        if self.transaction.status != b'T' {
            return Ok(Err(SqlError::new("25P01", "there is no transaction in progress")));
        }
        match self.read_point(text).await? {
            Ok(at) => {
                let sql = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                let done = self.own(sql, &[]).await?;
                self.transaction.as_of = Some(at);
                Ok(done.map(|_| "SET".to_owned()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn commit(&mut self) -> anyhow::Result<Result<String, SqlError>> {
        match self.transaction.restart {
            Restart::Released => {
                self.transaction = Transaction::default();
                return Ok(Ok("COMMIT".to_owned()));
            }
            Restart::Failed => {
                self.transaction = Transaction::default();
                return Ok(Ok("ROLLBACK".to_owned()));
            }
            Restart::None | Restart::Open => {}
        }
        if self.transaction.status == b'I' {
            self.warn("there is no transaction in progress");
            return Ok(Ok("COMMIT".to_owned()));
        }
        let tag = if self.transaction.status == b'E' { "ROLLBACK" } else { "COMMIT" };
        match self.really_commit().await? {
            Ok(()) => {
                self.transaction = Transaction::default();
                Ok(Ok(tag.to_owned()))
            }
            Err(error) => {
                self.transaction = Transaction::default();
                Ok(Err(error))
            }
        }
    }

    /// Commits the backing session's transaction, or fails as a CockroachDB may. It has no transaction afterwards.
    async fn really_commit(&mut self) -> anyhow::Result<Result<(), SqlError>> {
        let knobs = self.cluster.settings.knobs();
        let open = self.transaction.status == b'T';
        let changed_schema = self.transaction.changed_schema;
        if open && self.draws_retry(knobs.retry_errors) {
            let _ = self.own("ROLLBACK", &[]).await?;
            return Ok(Err(retry_error("RETRY_SERIALIZABLE - injected by standin.retry_errors")));
        }
        let ambiguous = open && draws(knobs.ambiguous_commits);
        let sql = if ambiguous && fastrand::bool() { "ROLLBACK" } else { "COMMIT" };
        let done = self.own(sql, &[]).await?;
        if changed_schema {
            self.cluster.schema_changed();
        }
        if ambiguous && done.is_ok() {
            let text = "result is ambiguous: error=injected by standin.ambiguous_commits [exhausted]";
            return Ok(Err(SqlError::new("40003", text)));
        }
        Ok(done.map(drop))
    }

    async fn rollback(&mut self) -> anyhow::Result<Result<String, SqlError>> {
        if self.transaction.status == b'I' && self.transaction.restart == Restart::None {
            self.warn("there is no transaction in progress");
            return Ok(Ok("ROLLBACK".to_owned()));
        }
        if self.transaction.status != b'I'
            && let Err(error) = self.own("ROLLBACK", &[]).await?
        {
            return Ok(Err(error));
        }
        self.transaction = Transaction::default();
        Ok(Ok("ROLLBACK".to_owned()))
    }

    async fn savepoint(&mut self, name: &str) -> anyhow::Result<Result<String, SqlError>> {
        let tag = Ok("SAVEPOINT".to_owned());
        if !self.is_restart(name) {
            return self.pass_savepoint(&format!("SAVEPOINT {}", quoted(name)), tag).await;
        }
        if self.transaction.status == b'I' {
            return Ok(Err(SqlError::new("25P01", "there is no transaction in progress")));
        }
        if self.transaction.used && self.transaction.restart == Restart::None {
            let text = format!("SAVEPOINT \"{RESTART_SAVEPOINT}\" needs to be the first statement in a transaction");
            return Ok(Err(SqlError::new("42601", text)));
        }
        self.transaction.restart = Restart::Open;
        Ok(tag)
    }

    async fn release(&mut self, name: &str) -> anyhow::Result<Result<String, SqlError>> {
        let tag = Ok("RELEASE".to_owned());
        if !self.is_restart(name) || self.transaction.restart == Restart::None {
            return self.pass_savepoint(&format!("RELEASE SAVEPOINT {}", quoted(name)), tag).await;
        }
        if self.transaction.status != b'T' {
            return Ok(Err(SqlError::new("25P02", aborted())));
        }
        // Its commit is the transaction's, and its failure is not its end: the client goes back to the savepoint.
        let began = self.transaction.begin_sql.clone();
        let injected = self.transaction.injected;
        let done = self.really_commit().await?;
        let restart = if done.is_ok() { Restart::Released } else { Restart::Failed };
        self.transaction = Transaction { restart, begin_sql: began, injected, ..Transaction::default() };
        Ok(done.and(tag))
    }

    async fn rollback_to(&mut self, name: &str) -> anyhow::Result<Result<String, SqlError>> {
        let tag = Ok("ROLLBACK".to_owned());
        if !self.is_restart(name) || self.transaction.restart == Restart::None {
            return self.pass_savepoint(&format!("ROLLBACK TO SAVEPOINT {}", quoted(name)), tag).await;
        }
        let began = self.transaction.begin_sql.clone();
        // A new transaction: a serializable one keeps the snapshot with which it was bound to fail.
        let sql = if self.transaction.status == b'I' { began.as_str() } else { "ROLLBACK AND CHAIN" };
        if let Err(error) = self.own(sql, &[]).await? {
            return Ok(Err(error));
        }
        let injected = self.transaction.injected;
        self.transaction =
            Transaction { status: b'T', restart: Restart::Open, begin_sql: began, injected, ..Transaction::default() };
        Ok(tag)
    }

    async fn pass_savepoint(
        &mut self,
        sql: &str,
        tag: Result<String, SqlError>,
    ) -> anyhow::Result<Result<String, SqlError>> {
        let status = self.transaction.status;
        match self.own(sql, &[]).await? {
            Ok(_) => {
                if status == b'E' {
                    self.transaction.status = b'T';
                }
                Ok(tag)
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn is_restart(&self, name: &str) -> bool {
        name == RESTART_SAVEPOINT || self.variable("force_savepoint_restart") == Some("on")
    }

    /// Returns whether something has to happen before each statement.
    pub fn has_duties(&self) -> bool {
        let knobs = self.cluster.settings.knobs();
        knobs.retry_errors > 0.0
            || !knobs.slow.is_zero()
            || self.transaction.restart == Restart::Released
            || self.variable("inject_retry_errors_enabled") == Some("on")
    }

    /// What a statement meets before it runs: a delay, or an error.
    pub async fn before_statement(&mut self) -> anyhow::Result<Option<SqlError>> {
        let knobs = self.cluster.settings.knobs();
        if !knobs.slow.is_zero() {
            tokio::time::sleep(knobs.slow).await;
        }
        if self.transaction.restart == Restart::Released {
            return Ok(Some(committed()));
        }
        if self.transaction.restart == Restart::Failed {
            return Ok(Some(SqlError::new("25P02", aborted())));
        }
        if !self.transaction.is_open() {
            return Ok(None);
        }
        self.transaction.used = true;
        if self.variable("inject_retry_errors_enabled") == Some("on") && self.transaction.injected < INJECTED_MAX {
            self.transaction.injected += 1;
            let text = "restart transaction: TransactionRetryWithProtoRefreshError: injected by \
                        `inject_retry_errors_enabled` session variable";
            return Ok(Some(SqlError::new("40001", text)));
        }
        if self.draws_retry(knobs.retry_errors) {
            return Ok(Some(retry_error("RETRY_SERIALIZABLE - injected by standin.retry_errors")));
        }
        Ok(None)
    }

    fn draws_retry(&self, probability: f64) -> bool {
        // A transaction that reads at a time in the past has nothing to run into.
        self.transaction.as_of.is_none() && draws(probability)
    }

    /// Commits before a change of a schema, as `autocommit_before_ddl` says.
    pub async fn before_ddl(&mut self) -> anyhow::Result<Result<(), SqlError>> {
        self.transaction.used = true;
        self.transaction.changed_schema = true;
        let default = if self.cluster.version.at_least(25, 1) { "on" } else { "off" };
        let commits = self.variable("autocommit_before_ddl").unwrap_or(default) == "on";
        if !commits || !self.transaction.is_open() {
            return Ok(Ok(()));
        }
        let notice = "auto-committing transaction before processing DDL due to autocommit_before_ddl setting";
        answer::notice(self.client.output(), "NOTICE", &SqlError::new("00000", notice));
        let done = self.really_commit().await?;
        self.transaction = Transaction::default();
        Ok(done)
    }

    pub fn after_ddl(&mut self) {
        self.cluster.schema_changed();
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn warn(&mut self, text: &str) {
        answer::notice(self.client.output(), "WARNING", &SqlError::new("25P01", text));
    }

    /// Aborts the backing session's transaction, where the stand-in itself has found an error.
    pub async fn break_transaction(&mut self) -> anyhow::Result<()> {
        let _ = self.own("SELECT standin_catalog.fail('XXUUU', 'broken off')", &[]).await?;
        Ok(())
    }

    /// Returns the time that the argument of AS OF SYSTEM TIME means.
    pub async fn read_point(&mut self, text: &str) -> anyhow::Result<Result<history::Hlc, SqlError>> {
        match self.helper().await? {
            Ok(helper) => Ok(history::read_point(helper, text).await),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Returns a session of the stand-in's own in the client's database.
    pub async fn helper(&mut self) -> anyhow::Result<Result<&tokio_postgres::Client, SqlError>> {
        if self.helper.as_ref().is_none_or(tokio_postgres::Client::is_closed) {
            match self.cluster.backing.client(&self.database).await {
                Ok(client) => self.helper = Some(client),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(self.helper.as_ref().expect("it was just opened")))
    }
}

fn draws(probability: f64) -> bool {
    probability > 0.0 && fastrand::f64() < probability
}

fn aborted() -> &'static str {
    "current transaction is aborted, commands ignored until end of transaction block"
}

fn committed() -> SqlError {
    SqlError::new("25000", "current transaction is committed, commands ignored until end of transaction block")
}

/// The error with which CockroachDB asks for a transaction to be run again.
pub fn retry_error(reason: &str) -> SqlError {
    let text = format!(
        "restart transaction: TransactionRetryWithProtoRefreshError: TransactionRetryError: retry txn ({reason})"
    );
    SqlError::new("40001", text)
        .hint("See: https://www.cockroachlabs.com/docs/v25.4/transaction-retry-error-reference.html")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
