//! Room for transactions that are larger than memory: temporary files that have no name, so that no crash leaves any.
//!
//! ```text
//!   Assembler --> Log (memory, then file) --commit--> Changes::Memory | Changes::Spooled --> readers
//!                                                                           |
//!                     Spool: the directory, its cap, what is in use <--drop-+
//! ```

mod log;
mod problem;
mod reader;
mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_model::Problem;

pub(crate) use log::Log;

/// A transaction this large goes to disk although the budget would hold it: what is in memory is decoded in one go.
const TRANSACTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where transactions go that do not fit into memory, how much room there is, and how much is in use. Clones share all
/// of it: transactions that outlive a connection go on counting.
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
    memory_bytes: AtomicU64,
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
        let (disk_bytes, memory_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Spool { shared: Arc::new(Shared { dir, bytes_max, memory_budget_bytes, disk_bytes, memory_bytes }) })
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Returns how many bytes may be on disk at once.
    pub fn bytes_max(&self) -> u64 {
        self.shared.bytes_max
    }

    /// Returns how many bytes are on disk now, in progress or committed and still held by someone.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of transactions that are not yet committed are in memory now.
    pub fn memory_bytes(&self) -> u64 {
        self.shared.memory_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of transactions that are not yet committed may be in memory.
    pub(crate) fn memory_budget_bytes(&self) -> u64 {
        self.shared.memory_budget_bytes
    }

    /// Returns the size past which one transaction goes to disk.
    pub(crate) fn transaction_bytes_max(&self) -> u64 {
        (self.shared.memory_budget_bytes / 4).min(TRANSACTION_BYTES_MAX)
    }

    /// Notes what is in memory now.
    pub(crate) fn set_memory_bytes(&self, bytes: u64) {
        self.shared.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    fn file(&self) -> Result<SpoolFile, Problem> {
        let file = tempfile::tempfile_in(self.dir()).map_err(|error| problem::directory(self.dir(), error))?;
        Ok(SpoolFile { file, len: 0, spool: self.clone() })
    }

    fn reserve(&self, bytes: u64) -> Result<(), Problem> {
        let in_use = self.shared.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
        if in_use.saturating_add(bytes) <= self.bytes_max() {
            return Ok(());
        }
        self.shared.disk_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Err(problem::cap(self, in_use, bytes))
    }
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let space = nix::sys::statvfs::statvfs(dir)?;
    Ok(space.blocks_available().saturating_mul(space.fragment_size()))
}

/// A file without a name that only grows. Dropping it frees its disk space, and its share of the cap.
#[derive(Debug)]
struct SpoolFile {
    file: File,
    len: u64,
    spool: Spool,
}

impl SpoolFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.spool.reserve(bytes.len() as u64)?;
        // Counted before it is written, so that a failed write is given back as well.
        self.len += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| problem::write(&self.spool, error))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.shared.disk_bytes.fetch_sub(self.len, Ordering::Relaxed);
    }
}
