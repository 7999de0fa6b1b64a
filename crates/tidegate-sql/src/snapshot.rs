//! The target's half of a fence: a snapshot of it, taken while the applier is held at one position.

use std::str::FromStr;

use tidegate_connect::{Session, Settings};
use tidegate_model::{Hlc, Position, Problem};
use tokio_postgres::error::SqlState;

use crate::dialect::Dialect;
use crate::retry;
use crate::state::{StateKey, failed};

/// By what other sessions read the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// PostgreSQL: imported by this name, for as long as the session that exported it keeps its transaction.
    Exported(String),
    /// CockroachDB: read AS OF SYSTEM TIME, for as long as the server keeps history.
    At(Hlc),
}

/// Takes snapshots of the target. Its session is made beforehand, because the applier is held meanwhile.
#[derive(Debug)]
pub struct SnapshotTaker {
    session: Session,
    key: StateKey,
}

impl SnapshotTaker {
    /// Connects.
    pub async fn open(settings: &Settings, key: &StateKey) -> Result<Self, Problem> {
        let session = Session::connect(settings, &key.migration.application_name("fence")).await?;
        Ok(SnapshotTaker { session, key: key.clone() })
    }

    /// Takes a snapshot in which the checkpoint stands at exactly `at`. It is kept until [`SnapshotTaker::let_go`], or
    /// until the taker is dropped.
    pub async fn take(&self, at: &Position) -> Result<Snapshot, Problem> {
        let (position, snapshot) = match Dialect::of(&self.session) {
            Dialect::Postgres => self.export().await?,
            Dialect::Cockroach => self.time().await?,
        };
        verify(position.as_deref(), at).map(|()| snapshot)
    }

    /// Ends the transaction that keeps a snapshot, where one is needed.
    pub async fn let_go(&self) -> Result<(), Problem> {
        match Dialect::of(&self.session) {
            Dialect::Postgres => self.session.batch_execute("ROLLBACK").await.map_err(failed("end a snapshot")),
            Dialect::Cockroach => Ok(()),
        }
    }

    /// Waits until the session that keeps the snapshot is gone. Cancel-safe. A time needs no session.
    pub async fn lost(&self) {
        match Dialect::of(&self.session) {
            Dialect::Postgres => drop(self.session.closed().await),
            Dialect::Cockroach => std::future::pending().await,
        }
    }

    async fn export(&self) -> Result<(Option<String>, Snapshot), Problem> {
        let asked = || failed("take a snapshot of the target");
        self.session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(asked())?;
        let row = self.session.query_one(&self.sql("pg_catalog.pg_export_snapshot()"), &[]).await.map_err(asked())?;
        Ok((row.get(0), Snapshot::Exported(row.get(1))))
    }

    /// The time of the statement that reads the checkpoint. Not that of the checkpoint's own commit, which would leave out
    /// what somebody else wrote since: a comparison is to see that.
    async fn time(&self) -> Result<(Option<String>, Snapshot), Problem> {
        let (position, at) = self.read("cluster_logical_timestamp()::STRING").await?;
        Ok((position, Snapshot::At(at)))
    }

    /// Returns when the checkpoint was committed, and with it the last rows that it covers (CockroachDB only). It stands at
    /// exactly `at`.
    pub async fn committed_at(&self, at: &Position) -> Result<Hlc, Problem> {
        let (position, committed_at) = self.read("crdb_internal_mvcc_timestamp::STRING").await?;
        verify(position.as_deref(), at).map(|()| committed_at)
    }

    /// Returns when the checkpoint was committed last (CockroachDB only): what the stream has written is not newer. `None`:
    /// the stream has none there.
    pub async fn written_at(&self) -> Result<Option<Hlc>, Problem> {
        let sql = self.sql("crdb_internal_mvcc_timestamp::STRING");
        let asked = || failed("read when the checkpoint was written");
        let found = retry::repeatable(|| async {
            match self.session.query_opt(&sql, &[]).await {
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
                other => other.map_err(asked()),
            }
        });
        found.await?.map(|row| time_in(row.get(1))).transpose()
    }

    async fn read(&self, time: &str) -> Result<(Option<String>, Hlc), Problem> {
        let sql = self.sql(time);
        let asked = || failed("take a snapshot of the target");
        let row = retry::repeatable(|| async { self.session.query_one(&sql, &[]).await.map_err(asked()) }).await?;
        Ok((row.get(0), time_in(row.get(1))?))
    }

    fn sql(&self, snapshot: &str) -> String {
        format!(
            "SELECT position, {snapshot} FROM {} WHERE {} AND shard = 0",
            self.key.table("checkpoint"),
            self.key.condition()
        )
    }
}

fn time_in(text: &str) -> Result<Hlc, Problem> {
    Hlc::from_str(text)
        .map_err(|error| Problem::bug("ST016", "the time of the checkpoint cannot be read", error.to_string()))
}

fn verify(position: Option<&str>, at: &Position) -> Result<(), Problem> {
    if position == Some(at.to_string().as_str()) {
        return Ok(());
    }
    let (what, found) = ("the target is not where it was held", position.unwrap_or("nowhere"));
    Err(Problem::bug("ST016", what, format!("it was held at {at}, and its checkpoint says {found}")))
}
