//! Reading tables for the initial copy.
//!
//! ```text
//!   slot (exported snapshot) --> keeper --exports again--> readers   one for each worker, new ones at any time
//!                                   |
//!   guards: ACCESS SHARE, one session each, from a table's first chunk to its last
//! ```
//!
//! The keeper is a session that imported the snapshot of a slot and exports it itself. From then on the slot's session
//! is not needed: a temporary slot is gone with it, and no WAL is held for the copy.

mod guard;
mod name;
mod problem;
mod reader;
mod session;
mod shape;
mod snapshot;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate_connect::Settings;
use tidegate_model::{CopySource, MigrationName, Problem};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use guard::PostgresGuard;
pub use reader::PostgresReader;
pub use snapshot::PostgresSnapshot;

use crate::slot::{CreatedSlot, SlotRequest, create_with_snapshot};

/// How tables are read.
#[derive(Clone, Debug)]
pub struct ReadConfig {
    /// About how many bytes on disk a chunk is, TOAST included.
    pub chunk_bytes: u64,
    /// How long others may wait for us.
    pub lock_yield: Duration,
    /// How long we wait for others when guarding a table; a waiting lock of ours stops nobody but whoever wants the
    /// table for himself.
    pub lock_timeout: Duration,
}

impl Default for ReadConfig {
    fn default() -> Self {
        // 32 MiB: large enough that starting one costs nothing, small enough that losing one costs little.
        let chunk_bytes = 32 * 1024 * 1024;
        ReadConfig { chunk_bytes, lock_yield: Duration::from_secs(5), lock_timeout: Duration::from_secs(1) }
    }
}

/// The source of a copy.
#[derive(Debug)]
pub struct PostgresCopySource {
    settings: Settings,
    name: MigrationName,
    config: ReadConfig,
    first: Mutex<Option<CreatedSlot>>,
    taken: AtomicU32,
}

impl PostgresCopySource {
    /// Reads the database of `settings`. `first` is the slot of the stream if it has just been made: its snapshot is
    /// the first one used, and its session ends when it has been imported.
    pub fn new(settings: Settings, name: MigrationName, config: ReadConfig, first: Option<CreatedSlot>) -> Self {
        PostgresCopySource { settings, name, config, first: Mutex::new(first), taken: AtomicU32::new(0) }
    }

    /// Makes a slot that ends with its session: its snapshot has a point in the stream's history.
    async fn make_temporary_slot(&self) -> Result<CreatedSlot, Problem> {
        // The number tells apart slots of sessions that are about to end, the process those of other processes.
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let slot = format!("{}_copy_{}_{number}", self.name.object_name(), std::process::id());
        let request = SlotRequest { settings: &self.settings, name: &self.name, slot: &slot, temporary: true };
        create_with_snapshot(request, &CancellationToken::new(), |_| {}).await
    }
}

impl CopySource for PostgresCopySource {
    type Snapshot = PostgresSnapshot;

    async fn snapshot(&self) -> Result<PostgresSnapshot, Problem> {
        let first = self.first.lock().await.take();
        let slot = match first {
            Some(slot) => slot,
            None => self.make_temporary_slot().await?,
        };
        PostgresSnapshot::import(slot, self.settings.clone(), self.name.clone(), self.config.clone()).await
    }
}
