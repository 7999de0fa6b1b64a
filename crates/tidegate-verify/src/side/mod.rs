//! One side of a comparison: a database at one snapshot.

mod cockroach;
mod postgres;
mod rows;

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_connect::{Session, Settings};
use tidegate_model::{Hlc, MigrationName, Problem, TableName};

use crate::key::Key;
pub(crate) use rows::Rows;

/// What makes any number of sessions see one and the same state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRef {
    /// What `pg_export_snapshot()` returned. Good for as long as the session that exported it stays in its transaction.
    Postgres {
        /// Its name.
        snapshot_id: String,
    },
    /// A time, good until garbage collection passes it.
    Cockroach {
        /// The time.
        at: Hlc,
    },
}

/// A database at one snapshot. Cheap to clone; the clones share their sessions, which are opened as they are needed and
/// end with the last clone.
#[derive(Clone, Debug)]
pub struct Side(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    snapshot: SnapshotRef,
    name: MigrationName,
    /// Sessions under the snapshot that nobody reads with.
    idle: Mutex<Vec<Session>>,
    /// Keeps the snapshot, where nobody else does.
    _keeper: Option<Session>,
}

/// What is read of a table.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) table: TableName,
    pub(crate) columns: Vec<String>,
    /// Indices into `columns`.
    pub(crate) key: Vec<usize>,
}

impl Side {
    /// Looks at the database of `settings` at `snapshot`. Nothing is connected yet.
    pub fn new(settings: Settings, snapshot: SnapshotRef, name: MigrationName) -> Side {
        Side(Arc::new(Inner { settings, snapshot, name, idle: Mutex::default(), _keeper: None }))
    }

    /// Looks at the database of `settings` as it is now, at no position that anybody knows. The snapshot is kept until the
    /// last clone goes.
    pub async fn now(settings: Settings, name: MigrationName) -> Result<Side, Problem> {
        let session = Session::connect(&settings, &name.application_name("verify")).await?;
        let snapshot = match session.is_cockroach() {
            true => cockroach::now(&session).await?,
            false => postgres::export(&session).await?,
        };
        let _keeper = matches!(snapshot, SnapshotRef::Postgres { .. }).then_some(session);
        Ok(Side(Arc::new(Inner { settings, snapshot, name, idle: Mutex::default(), _keeper })))
    }

    /// Looks at a PostgreSQL database in an exported snapshot.
    pub fn postgres(settings: Settings, snapshot_id: impl Into<String>, name: MigrationName) -> Side {
        Side::new(settings, SnapshotRef::Postgres { snapshot_id: snapshot_id.into() }, name)
    }

    /// Looks at a CockroachDB database as of a time.
    pub fn cockroach(settings: Settings, at: Hlc, name: MigrationName) -> Side {
        Side::new(settings, SnapshotRef::Cockroach { at }, name)
    }

    /// Returns whether the database is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self.0.snapshot, SnapshotRef::Postgres { .. })
    }

    /// Starts reading all rows, in any order.
    pub(crate) async fn read(&self, selection: &Selection) -> Result<Rows, Problem> {
        let session = self.session().await?;
        match &self.0.snapshot {
            SnapshotRef::Postgres { .. } => postgres::read(self, session, selection).await,
            SnapshotRef::Cockroach { at } => cockroach::read(self, session, selection, *at).await,
        }
    }

    /// Starts reading the rows of these keys, in any order. A server may send rows of other keys as well: it may cut a
    /// value when it turns it into the type of the key.
    pub(crate) async fn read_keys(&self, selection: &Selection, keys: &[Key]) -> Result<Rows, Problem> {
        let session = self.session().await?;
        match &self.0.snapshot {
            SnapshotRef::Postgres { .. } => postgres::read_keys(self, session, selection, keys).await,
            SnapshotRef::Cockroach { at } => cockroach::read_keys(self, session, selection, keys, *at).await,
        }
    }

    /// Has the server itself sum up a table; `None` where the server cannot be asked.
    pub(crate) async fn checksum(&self, selection: &Selection) -> Result<Option<postgres::Checksum>, Problem> {
        if !self.is_postgres() {
            return Ok(None);
        }
        let session = self.session().await?;
        let sum = postgres::checksum(&session, selection).await?;
        self.give_back(session);
        Ok(sum)
    }

    async fn session(&self) -> Result<Session, Problem> {
        let idle = {
            let mut sessions = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::iter::from_fn(|| sessions.pop()).find(|session| !session.is_closed())
        };
        if let Some(session) = idle {
            return Ok(session);
        }
        let session = Session::connect(&self.0.settings, &self.0.name.application_name("verify")).await?;
        if let SnapshotRef::Postgres { snapshot_id } = &self.0.snapshot {
            postgres::enter(&session, snapshot_id).await?;
        }
        Ok(session)
    }

    /// Keeps a session that is not in the middle of anything for the next one who reads.
    fn give_back(&self, session: Session) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}
