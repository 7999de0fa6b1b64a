//! The applying session: its settings, its prepared statements, and the requests of a transaction.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use tidegate_connect::Session;
use tidegate_model::{Position, Problem, Span, Timestamp};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

use super::ApplierConfig;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use super::session::{self, Backend, Ready};
use crate::dialect::Dialect;
use crate::plan::{self, Plan, SessionRights};
use crate::server_error;
use crate::state::{CheckpointRow, Lease, displaced, read_checkpoint};

/// How many statements a session keeps prepared. A plan needs a handful for each table it touches.
const PREPARED_MAX: usize = 500;

/// Plans are made anew after this many rows were written, then after twice as many, and so on. A plan made for a
/// table of one row reads all of it, and would go on doing so until the next ANALYZE, however much is written
/// meanwhile; a new plan takes the size of the table from its file.
const REPLAN_FIRST: u64 = 1_000;

/// A session at the target and what is prepared in it.
#[derive(Debug)]
pub(super) struct Connection {
    session: Arc<Session>,
    dialect: Dialect,
    ready: Ready,
    checkpoint: Statement,
    prepared: HashMap<Arc<str>, Prepared>,
    /// Counts rounds of preparing and sending.
    round: u64,
    /// Rows written so far.
    rows: u64,
    /// How many rows are written when plans are made anew.
    replan_at: u64,
}

#[derive(Debug)]
struct Prepared {
    statement: Statement,
    /// The round in which it was last wanted.
    used: u64,
}

impl Connection {
    /// Opens a session that replaces the one of `earlier`.
    pub(super) async fn open(config: &ApplierConfig, earlier: Option<&Backend>) -> Result<Self, Problem> {
        let role = config.lease.key.migration.application_name("apply");
        let session = Session::connect(&config.settings, &role).await?;
        let dialect = Dialect::of(&session);
        let ready = session::set_up(&session, config, earlier).await?;
        let types = [Type::TEXT, Type::INT8, Type::TEXT];
        let checkpoint = session.prepare_typed(&session::advance_sql(&config.lease, dialect), &types).await;
        let checkpoint = checkpoint.map_err(|error| {
            let next = "see the reason; what the role needs is listed by tidegate check";
            server_error::problem("AP052", "the session that writes to the target could not be set up", error, next)
        })?;
        let prepared = HashMap::new();
        let session = Arc::new(session);
        Ok(Connection { session, dialect, ready, checkpoint, prepared, round: 0, rows: 0, replan_at: REPLAN_FIRST })
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn rights(&self) -> SessionRights {
        self.ready.rights
    }

    pub(super) fn backend(&self) -> Option<&Backend> {
        self.ready.backend.as_ref()
    }

    /// Says what follows from an error of this session.
    pub(super) fn failure(&self, step: Step, error: Error) -> Failure {
        Failure::of(self.dialect, step, error)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Makes sure that the checkpoint stands at `at` and is ours to move.
    pub(super) async fn verify_checkpoint(&self, lease: &Lease, at: &Position) -> Result<(), Problem> {
        match read_checkpoint(&self.session, &lease.key).await? {
            Some(row) if row.epoch != lease.epoch => Err(displaced(lease)),
            Some(row) if row.position.as_ref() == Some(at) => Ok(()),
            row => {
                let stands = row.and_then(|row| row.position).map_or("nowhere".to_owned(), |at| at.to_string());
                let why = format!("it stands at {stands}, the stream is to go on at {at}");
                Err(Problem::bug("AP053", "the checkpoint is not where the stream goes on", why))
            }
        }
    }

    /// Ends whatever transaction is open and reads the checkpoint row, behind any transaction that is about to move it.
    pub(super) async fn read_settled(&self, lease: &Lease) -> Result<Option<CheckpointRow>, Failure> {
        let failed = |error| self.failure(Step::Begin, error);
        self.roll_back().await.map_err(failed)?;
        // FOR UPDATE waits for a transaction that holds the row, and needs a transaction that may write.
        let lock =
            format!("SELECT epoch FROM {} WHERE {} FOR UPDATE", lease.key.table("checkpoint"), lease.key.condition());
        for text in ["BEGIN READ WRITE", &lock, "COMMIT"] {
            self.session.batch_execute(text).await.map_err(failed)?;
        }
        // Outside the transaction, where it may be asked again. If it moves in between, the compare-and-set tells.
        Ok(read_checkpoint(&self.session, &lease.key).await?)
    }

    /// Begins a round: what is wanted from now on stays prepared until the next one.
    pub(super) fn next_round(&mut self) {
        self.round += 1;
    }

    /// Returns the session to prepare a statement in; `None`: it is prepared.
    pub(super) fn missing(&mut self, sql: &Arc<str>) -> Option<Arc<Session>> {
        match self.prepared.get_mut(sql) {
            Some(prepared) => {
                prepared.used = self.round;
                None
            }
            None => Some(Arc::clone(&self.session)),
        }
    }

    /// Keeps a prepared statement, and lets the one go that was not wanted for longest. What this round wants stays,
    /// however much it is.
    pub(super) fn keep(&mut self, sql: &Arc<str>, statement: Statement) {
        if self.prepared.len() >= PREPARED_MAX {
            let oldest = self.prepared.iter().min_by_key(|(_, prepared)| prepared.used);
            let oldest = oldest.filter(|(_, prepared)| prepared.used < self.round);
            if let Some(oldest) = oldest.map(|(sql, _)| Arc::clone(sql)) {
                self.prepared.remove(&oldest);
            }
        }
        self.prepared.insert(Arc::clone(sql), Prepared { statement, used: self.round });
    }

    /// Prepares a statement, waiting for the answer.
    pub(super) async fn prepare(&mut self, sql: &Arc<str>) -> Result<(), Error> {
        if let Some(session) = self.missing(sql) {
            let statement = session.prepare(sql).await?;
            self.keep(sql, statement);
        }
        Ok(())
    }

    /// Sends the head of a transaction: BEGIN and the step of the checkpoint over `span`.
    pub(super) async fn send_begin(
        &mut self,
        exchange: &mut Exchange,
        span: &Span,
        committed_at: Option<Timestamp>,
    ) -> bool {
        let defers = self.ready.rights.foreign_keys_enforced && !self.dialect.is_cockroach();
        let deferred = if defers { "; SET CONSTRAINTS ALL DEFERRED" } else { "" };
        let renewed = self.renew_plans();
        let begin = format!("BEGIN READ WRITE{}{deferred}{renewed}", self.ready.first);
        if !self.send_text(exchange, Step::Begin, begin).await {
            return false;
        }
        let (session, statement) = (Arc::clone(&self.session), self.checkpoint.clone());
        let (until, after) = (span.until.to_string(), span.after.to_string());
        let committed_at = committed_at.map(|at| at.0);
        let request = async move {
            let params: [&(dyn ToSql + Sync); 3] = [&until, &committed_at, &after];
            session.execute(&statement, &params).await.map(drop)
        };
        exchange.send(Step::Checkpoint, request).await
    }

    /// Sends statement `index` of a plan. It must be prepared.
    pub(super) async fn send_planned(&mut self, exchange: &mut Exchange, plan: &Arc<Plan>, index: usize) -> bool {
        let statement = self.statement(&plan.statements[index].sql);
        self.rows += plan.statements[index].rows;
        let (session, plan) = (Arc::clone(&self.session), Arc::clone(plan));
        let request = async move {
            let params = plan.statements[index].params.iter();
            session.execute_raw(&statement, params).await.map(drop)
        };
        exchange.send(Step::Statement(index), request).await
    }

    /// Sends one statement by itself. It must be prepared.
    pub(super) async fn send_one(&mut self, exchange: &mut Exchange, one: plan::Statement, number: usize) -> bool {
        let (session, statement) = (Arc::clone(&self.session), self.statement(&one.sql));
        let request = async move { session.execute_raw(&statement, &one.params).await.map(drop) };
        exchange.send(Step::Statement(number), request).await
    }

    /// Runs a statement and waits for its answer: the first row, if there is one.
    pub(super) async fn ask(&mut self, statement: &plan::Statement) -> Result<Option<Row>, Error> {
        self.prepare(&statement.sql).await?;
        self.rows += 1;
        let prepared = self.statement(&statement.sql);
        let rows = self.session.query_raw(&prepared, &statement.params).await?;
        let rows: Vec<Row> = rows.try_collect().await?;
        Ok(rows.into_iter().next())
    }

    /// Runs a statement with other parameters, and waits for its answer.
    pub(super) async fn execute(&mut self, sql: &Arc<str>, params: &[&(dyn ToSql + Sync)]) -> Result<(), Error> {
        self.prepare(sql).await?;
        self.session.execute(&self.statement(sql), params).await.map(drop)
    }

    /// Sends SQL text without parameters.
    pub(super) async fn send_text(&self, exchange: &mut Exchange, step: Step, sql: impl Into<String>) -> bool {
        let (session, sql) = (Arc::clone(&self.session), sql.into());
        exchange.send(step, async move { session.batch_execute(&sql).await }).await
    }

    /// Returns what goes behind a BEGIN or SAVEPOINT so that plans are made anew when it is time.
    pub(super) fn renew_plans(&mut self) -> &'static str {
        if self.rows < self.replan_at || self.dialect.is_cockroach() {
            return "";
        }
        self.replan_at = self.rows * 2;
        "; DISCARD PLANS"
    }

    /// Rolls back whatever transaction is open. A session that cannot even do that is lost.
    pub(super) async fn roll_back(&self) -> Result<(), Error> {
        match self.session.batch_execute("ROLLBACK").await {
            // Some releases of CockroachDB take it ill that there is no transaction, where others only notice it.
            Err(error) if self.dialect.is_cockroach() && !error.is_closed() && error.code().is_some() => Ok(()),
            done => done,
        }
    }

    fn statement(&self, sql: &Arc<str>) -> Statement {
        self.prepared.get(sql).expect("a statement is prepared before it is sent").statement.clone()
    }
}
