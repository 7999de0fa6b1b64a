//! What a source committed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{NewRow, OldRow, Position, Problem, Row, SourceTable};

/// A point in time: microseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// One committed source transaction: whole, and in commit order.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Where to resume after it. PostgreSQL: the end LSN of its commit. CockroachDB: its MVCC timestamp.
    pub position: Position,
    /// Commit time by the source's clock.
    pub committed_at: Timestamp,
    /// PostgreSQL: the id of the top-level transaction, without the epoch. By it a snapshot says whether it sees the
    /// transaction, which positions do not: transactions become visible in another order than they commit. `None`
    /// where the source has no such ids.
    pub xid: Option<u32>,
    /// In memory or spooled to disk, read in order: a transaction may be larger than memory.
    pub changes: Changes,
}

/// The changes of a transaction, in the order in which the source made them. CockroachDB tells no order: there each row
/// occurs once, with its first and its last image, and removals come before arrivals.
#[derive(Clone)]
pub enum Changes {
    /// Held in memory.
    Memory(Arc<[Change]>),
    /// Held on disk, read as often as wanted.
    Spooled(Arc<dyn SpooledChanges>),
}

impl Changes {
    /// Reads the changes from the first one. Blocks on disk: not for async code.
    pub fn read(&self) -> Result<ChangeReader, Problem> {
        match self {
            Changes::Memory(changes) => {
                let changes = Arc::clone(changes);
                let mut next = 0;
                Ok(Box::new(std::iter::from_fn(move || {
                    next += 1;
                    changes.get(next - 1).cloned().map(Ok)
                })))
            }
            Changes::Spooled(spooled) => spooled.read(),
        }
    }

    /// Returns how many bytes of memory the changes hold; what is on disk counts nothing.
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Changes::Memory(changes) => changes.iter().map(Change::memory_bytes).sum(),
            Changes::Spooled(_) => 0,
        }
    }

    /// Returns how many bytes the changes are, wherever they are held.
    pub fn bytes(&self) -> u64 {
        match self {
            Changes::Memory(_) => self.memory_bytes(),
            Changes::Spooled(spooled) => spooled.bytes(),
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Changes::Memory(changes) => write!(f, "Memory({} changes)", changes.len()),
            Changes::Spooled(spooled) => write!(f, "Spooled({} bytes)", spooled.bytes()),
        }
    }
}

/// Changes one after another; ends after the last one or after an error.
pub type ChangeReader = Box<dyn Iterator<Item = Result<Change, Problem>> + Send>;

/// The changes of one committed transaction on disk. Dropping the last handle frees the disk space.
pub trait SpooledChanges: Send + Sync {
    /// Starts reading at the first change. May be called again: a failed attempt to apply starts over.
    fn read(&self) -> Result<ChangeReader, Problem>;
    /// Returns the size on disk.
    fn bytes(&self) -> u64;
}

/// One change. The table is as the source described it at that moment.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new row. Always full.
    Insert {
        /// Its table.
        table: Arc<SourceTable>,
        /// The row.
        new: Row,
    },
    /// A changed row.
    Update {
        /// Its table.
        table: Arc<SourceTable>,
        /// The row before, if its replica identity changed or is FULL. `None`: the identity is that of `new`.
        old: Option<OldRow>,
        /// The row after.
        new: NewRow,
    },
    /// A removed row.
    Delete {
        /// Its table.
        table: Arc<SourceTable>,
        /// What identifies it.
        old: OldRow,
    },
    /// Tables emptied at once.
    Truncate {
        /// All tables that the command emptied and that are published.
        tables: Vec<Arc<SourceTable>>,
    },
    /// A logical message. Changes no row; ours mark places in the history.
    Message {
        /// Who it is for; ours is `tidegate`.
        prefix: Arc<str>,
        /// Its content.
        content: Bytes,
    },
}

impl Change {
    /// Returns roughly how much memory the change holds.
    pub fn memory_bytes(&self) -> u64 {
        let rows = match self {
            Change::Insert { new, .. } => new.memory_bytes(),
            Change::Update { old, new, .. } => {
                old.as_ref().map_or(0, |old| old.row().memory_bytes()) + new.row().memory_bytes()
            }
            Change::Delete { old, .. } => old.row().memory_bytes(),
            Change::Truncate { .. } => 0,
            Change::Message { content, .. } => content.len() as u64,
        };
        rows + size_of::<Change>() as u64
    }
}
