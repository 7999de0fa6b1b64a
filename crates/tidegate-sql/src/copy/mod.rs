//! Writing tables of the initial copy.
//!
//! ```text
//!   prepare   foreign keys away                          definitions kept in target_object
//!   begin     planned -> copying, emptied, indexes away
//!   chunk     lease, record, COPY, counters              one transaction each
//!   finish    copying -> copied, with the route
//!   restore   indexes back
//!   ...the stream passes the highest point...
//!   restore_foreign_keys
//! ```
//!
//! Every transaction begins with the lease, so that nothing is written behind a new owner. What was taken away from a
//! table is recorded in the transaction that takes it away: whoever comes next brings it back.
//!
//! At CockroachDB, where a large transaction is a bad one, a chunk is written in pieces. Indexes stay.

mod chunk;
mod cockroach;
mod foreign_keys;
mod format;
mod indexes;
mod load;
mod objects;
mod problem;
mod records;
mod session;

use tidegate_connect::Settings;
use tidegate_model::{CopyTarget, Load, MigrationName, Problem, TableMap, TableRoute};

pub use chunk::SqlChunkWriter;
pub use records::{CopyRecord, PlannedTable, forget_all, mark_copied, plan, read_records, recopy, recopy_all};
use session::Sessions;

use crate::dialect::Dialect;
use crate::state::Lease;

/// How tables are written.
#[derive(Clone, Debug)]
pub struct CopyTargetConfig {
    /// The target.
    pub settings: Settings,
    /// The migration, for the names of sessions.
    pub name: MigrationName,
    /// The right to write.
    pub lease: Lease,
    /// Tables smaller than this at the source keep their indexes while they are loaded. CockroachDB's always keep them.
    pub indexes_kept_below_bytes: u64,
}

impl CopyTargetConfig {
    /// Below this size building indexes anew saves nothing that anybody would notice.
    pub const INDEXES_KEPT_BELOW_BYTES: u64 = 64 * 1024 * 1024;
}

/// A SQL target of a copy.
#[derive(Debug)]
pub struct SqlCopyTarget {
    sessions: Sessions,
    indexes_kept_below_bytes: u64,
}

impl SqlCopyTarget {
    /// Writes under the lease; connects when it is first used.
    pub fn new(config: CopyTargetConfig) -> Self {
        let CopyTargetConfig { settings, name, lease, indexes_kept_below_bytes } = config;
        SqlCopyTarget { sessions: Sessions::new(settings, name, lease), indexes_kept_below_bytes }
    }

    /// Brings back the foreign keys that [`CopyTarget::prepare`] took away, and checks every row against them. To be
    /// called once the stream has passed the highest point of the tables; may be repeated. Writers wait only while a
    /// key is added, not while rows are checked.
    pub async fn restore_foreign_keys(&self) -> Result<(), Problem> {
        match self.sessions.dialect().await? {
            Dialect::Postgres => foreign_keys::restore(&self.sessions).await,
            Dialect::Cockroach => cockroach::restore_foreign_keys(&self.sessions).await,
        }
    }
}

impl CopyTarget for SqlCopyTarget {
    type Writer = SqlChunkWriter;

    async fn prepare(&self, stream: &[TableMap], loading: &[TableMap]) -> Result<(), Problem> {
        match self.sessions.dialect().await? {
            Dialect::Postgres => foreign_keys::take_away(&self.sessions, stream, loading).await,
            Dialect::Cockroach => cockroach::take_foreign_keys_away(&self.sessions, stream, loading).await,
        }
    }

    async fn begin(&self, table: &TableMap, bytes_estimated: u64) -> Result<Load, Problem> {
        let load = load::begin(&self.sessions, table).await?;
        if bytes_estimated >= self.indexes_kept_below_bytes && !self.sessions.dialect().await?.is_cockroach() {
            indexes::take_away(&self.sessions, &table.target).await?;
        }
        Ok(load)
    }

    fn writer(&self) -> SqlChunkWriter {
        SqlChunkWriter::new(self.sessions.clone())
    }

    async fn finish(&self, route: &TableRoute, load: &Load, chunks: u64) -> Result<(), Problem> {
        load::finish(&self.sessions, route, load, chunks).await
    }

    async fn restore(&self, table: &TableMap) -> Result<(), Problem> {
        match self.sessions.dialect().await? {
            Dialect::Postgres => indexes::restore(&self.sessions, &table.target).await,
            // Nothing was taken away.
            Dialect::Cockroach => Ok(()),
        }
    }
}
