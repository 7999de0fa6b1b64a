//! A transaction that comes in one piece, after its commit.

use tidegate_model::{Change, Changes, Lsn, Problem};

use super::writer::Writer;
use crate::spool::{Log, Spool};

/// Past this the room of a transaction's changes is given back instead of kept for the next one.
const SPARE_CHANGES_MAX: usize = 4096;

/// What came between Begin and Commit.
#[derive(Debug)]
pub(super) struct PlainTransaction {
    /// By its Begin message, for its Commit to agree with.
    pub(super) final_lsn: Lsn,
    pub(super) xid: u32,
    pub(super) writer: Writer,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Memory { changes: Vec<Change>, bytes: u64 },
    Log(Log),
}

impl PlainTransaction {
    /// Begins, in the room of an earlier transaction.
    pub(super) fn new(final_lsn: Lsn, xid: u32, spare: Vec<Change>) -> Self {
        PlainTransaction { final_lsn, xid, writer: Writer::default(), body: Body::Memory { changes: spare, bytes: 0 } }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        match &self.body {
            Body::Memory { bytes, .. } => *bytes,
            Body::Log(log) => log.memory_bytes(),
        }
    }

    /// Takes whether its origin is one of ours; false where that contradicts what is known. Nothing is kept of one of
    /// our own.
    pub(super) fn came_from(&mut self, is_own: bool) -> bool {
        if is_own {
            self.body = Body::Memory { changes: Vec::new(), bytes: 0 };
        }
        self.writer.came_from(is_own)
    }

    pub(super) fn push(&mut self, change: Change, spool: &Spool) -> Result<(), Problem> {
        match &mut self.body {
            Body::Log(log) => log.change(&change),
            Body::Memory { changes, bytes } => {
                *bytes += change.memory_bytes();
                changes.push(change);
                if *bytes > spool.transaction_bytes_max() { self.spill(spool) } else { Ok(()) }
            }
        }
    }

    /// Moves to disk what is in memory.
    pub(super) fn spill(&mut self, spool: &Spool) -> Result<(), Problem> {
        if let Body::Memory { changes, .. } = &mut self.body {
            let mut log = Log::new(spool.clone());
            changes.drain(..).try_for_each(|change| log.change(&change))?;
            self.body = Body::Log(log);
        }
        match &mut self.body {
            Body::Log(log) => log.spill(),
            Body::Memory { .. } => Ok(()),
        }
    }

    /// Ends the transaction: its changes, if any, and room for the next one.
    pub(super) fn finish(self) -> Result<(Option<Changes>, Vec<Change>), Problem> {
        match self.body {
            Body::Log(log) => Ok((log.finish(Vec::new())?, Vec::new())),
            Body::Memory { changes, .. } if changes.is_empty() => Ok((None, changes)),
            Body::Memory { mut changes, .. } => {
                let taken = Changes::Memory(changes.drain(..).collect());
                changes.shrink_to(SPARE_CHANGES_MAX);
                Ok((Some(taken), changes))
            }
        }
    }
}
