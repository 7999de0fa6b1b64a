//! Reading tables for the initial copy, all as of one time T.
//!
//! ```text
//!   T (the stream's start) --> snapshot: any session, any number of times, for as long as the server keeps history
//!   primary key, walked -----> ranges (k0, k1], (k1, k2], ... one chunk each
//!   SELECT ... AS OF SYSTEM TIME T ... ORDER BY key --> COPY text
//! ```
//!
//! Nothing is held at the server: a lost connection, and even a lost process, reads on under the same T. So nothing is
//! ever locked either, and what happens to a table meanwhile does not touch what it was at T. Only garbage collection
//! ends it.

mod encode;
mod guard;
mod problem;
mod reader;
mod snapshot;

use tidegate_connect::Settings;
use tidegate_model::{CopySource, Hlc, MigrationName, Problem};

pub use guard::CockroachGuard;
pub use reader::CockroachReader;
pub use snapshot::CockroachSnapshot;

/// How tables are read.
#[derive(Clone, Debug)]
pub struct ReadConfig {
    /// About how many bytes of text a chunk is.
    pub chunk_bytes: u64,
}

impl Default for ReadConfig {
    fn default() -> Self {
        // 32 MiB: large enough that starting one costs nothing, small enough that losing one costs little.
        ReadConfig { chunk_bytes: 32 * 1024 * 1024 }
    }
}

/// The source of a copy.
#[derive(Debug)]
pub struct CockroachCopySource {
    settings: Settings,
    name: MigrationName,
    at: Hlc,
    config: ReadConfig,
}

impl CockroachCopySource {
    /// Reads the database of `settings` as it was at `at`, which is where the stream begins.
    pub fn new(settings: Settings, name: MigrationName, at: Hlc, config: ReadConfig) -> Self {
        CockroachCopySource { settings, name, at, config }
    }
}

impl CopySource for CockroachCopySource {
    type Snapshot = CockroachSnapshot;

    async fn snapshot(&self) -> Result<CockroachSnapshot, Problem> {
        Ok(CockroachSnapshot::new(self.settings.clone(), self.name.clone(), self.at, self.config.clone()))
    }
}
