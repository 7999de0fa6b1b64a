//! Room for what does not fit into memory: temporary files that have no name, so that no crash leaves any.
//!
//! ```text
//!   Window --> sorted runs --merge--> transactions, the large ones on disk again --> readers
//!                                                                                      |
//!              Spool: the directory, its cap, what is in use <----------drop-----------+
//! ```

mod file;
mod problem;
mod record;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_model::Problem;

pub(crate) use file::{RecordReader, RecordWriter, SpoolFile};
pub(crate) use record::{damaged, decode, encode};

/// A transaction this large goes to disk although the budget would hold it: what is in memory is handed on in one go.
const TRANSACTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where rows go that do not fit into memory, how much room there is, and how much is in use. Clones share all of it:
/// transactions that outlive a connection go on counting.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    bytes_max: u64,
    memory_budget_bytes: u64,
    disk_bytes: AtomicU64,
}

impl Spool {
    /// Spools into `dir` at most `bytes_max` bytes over all transactions (`None`: half of what is free there now), and
    /// only what does not fit into `memory_budget_bytes`. Makes and removes a file there, so that a directory which
    /// cannot be used is found now and not in the middle of a transaction.
    pub fn new(dir: impl Into<PathBuf>, bytes_max: Option<u64>, memory_budget_bytes: u64) -> Result<Spool, Problem> {
        let dir = dir.into();
        tempfile::tempfile_in(&dir).map_err(|error| problem::directory(&dir, error))?;
        let bytes_max = match bytes_max {
            Some(bytes_max) => bytes_max,
            None => free_bytes(&dir).map_err(|error| problem::directory(&dir, error))? / 2,
        };
        let disk_bytes = AtomicU64::new(0);
        Ok(Spool { shared: Arc::new(Shared { dir, bytes_max, memory_budget_bytes, disk_bytes }) })
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Returns how many bytes may be on disk at once.
    pub fn bytes_max(&self) -> u64 {
        self.shared.bytes_max
    }

    /// Returns how many bytes are on disk now, waiting for a resolved timestamp or committed and still held by someone.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of rows may be in memory.
    pub(crate) fn memory_budget_bytes(&self) -> u64 {
        self.shared.memory_budget_bytes
    }

    /// Returns the size past which one transaction goes to disk.
    pub(crate) fn transaction_bytes_max(&self) -> u64 {
        (self.shared.memory_budget_bytes / 4).min(TRANSACTION_BYTES_MAX)
    }

    fn reserve(&self, bytes: u64) -> Result<(), Problem> {
        let in_use = self.shared.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
        if in_use.saturating_add(bytes) <= self.bytes_max() {
            return Ok(());
        }
        self.release(bytes);
        Err(problem::cap(self, in_use, bytes))
    }

    fn release(&self, bytes: u64) {
        self.shared.disk_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let space = nix::sys::statvfs::statvfs(dir)?;
    Ok(space.blocks_available().saturating_mul(space.fragment_size()))
}
