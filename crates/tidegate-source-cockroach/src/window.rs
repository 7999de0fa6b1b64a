//! The window assembler: from the rows of a feed, in any order and any number of times, to whole transactions in commit
//! order. Pure and synchronous but for the spool's files: it blocks on disk, so it runs on a thread of its own.
//!
//! ```text
//!                  repeats, copies, phantoms: dropped
//!                        ^
//!   FeedRow, Refusal ----+--> pending (memory) --over budget--> sorted runs (disk)
//!                                   |                                |
//!                  Resolved(R) -->  +------ merge by (time, table, key), duplicates once ------+
//!                                                                                              v
//!                            Event::Commit for each time <= R, in order, then Event::Watermark(R)
//! ```
//!
//! - All rows of one transaction carry the same timestamp, and every row up to a resolved timestamp has come at least
//!   once: so equal timestamps up to it are whole transactions. (Two transactions that share a timestamp wrote
//!   different rows, and become one.)
//! - What comes at or before the last resolved timestamp that was taken is a repeat. So is a row that never came
//!   before: it would contradict that timestamp, and cannot be told from a repeat.
//! - A row that a schema change or a scan sends again (its `mvcc_timestamp` is before its `updated`) is a copy of a
//!   version that came, or comes, by itself at its own time, so it is dropped: it would put an older version after a
//!   newer one, or bring back a row that is gone. Without `mvcc_timestamp` it cannot be told; it is then an update at
//!   the time of the schema change to what the row was at that time, which changes nothing.
//! - Two rows of one table, key and timestamp are one: CockroachDB keeps one version of a row for each timestamp. If
//!   they differ, the feed contradicts itself and the stream ends there.

mod entry;
mod merge;
mod problem;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidegate_model::{Event, Hlc, Position, Problem, RelationId};

use crate::message::{FeedRow, Message, Refusal, RowChange};
use crate::spool::Spool;
use crate::table::TableInfo;
pub(crate) use entry::Entry;
use merge::Runs;
use transaction::Assembly;

/// Puts transactions together. Give it the messages of a feed with [`take`](Window::take), and after each take events
/// out with [`next_event`](Window::next_event) until there is none: memory is bounded by the spool's budget as long as
/// that is so. Not taking events is the caller's way of holding the feed back.
///
/// It may be kept over a reconnection of the feed (which repeats rows) as well as made anew at the position of the last
/// event. After an error it is finished.
#[derive(Debug)]
pub struct Window {
    spool: Spool,
    tables: Arc<Known>,
    /// What comes at or before it has come before.
    closed: Hlc,
    /// Rows after `closed`, as they came.
    pending: Vec<Entry>,
    pending_bytes: u64,
    /// Rows up to `closed`, sorted, that are still to come out.
    ready: VecDeque<Entry>,
    ready_bytes: u64,
    runs: Runs,
    refusal: Option<Refusal>,
    /// Whether events up to `closed` are still to come out.
    open: bool,
    statistics: Statistics,
}

/// The tables whose rows came.
type Known = HashMap<RelationId, Arc<TableInfo>>;

/// What a window did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rows that were taken in.
    pub rows: u64,
    /// Rows at or before the last resolved timestamp.
    pub repeats: u64,
    /// Rows that came twice before their resolved timestamp did. Counted when they come out.
    pub duplicates: u64,
    /// Rows that a schema change or a scan sent again.
    pub copies: u64,
    /// Deletions of rows that were not there.
    pub phantoms: u64,
    /// Runs that were written to disk, runs made of runs included.
    pub runs: u64,
}

impl Window {
    /// Begins behind `start`: what is at or before it was given out before.
    pub fn new(start: Hlc, spool: Spool) -> Self {
        Window {
            runs: Runs::new(spool.clone()),
            spool,
            tables: Arc::default(),
            closed: start,
            pending: Vec::new(),
            pending_bytes: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            refusal: None,
            open: false,
            statistics: Statistics::default(),
        }
    }

    /// Takes a message of the feed.
    pub fn take(&mut self, message: Message) -> Result<(), Problem> {
        match message {
            Message::Row(row) => self.push(row),
            Message::Refused(refusal) => {
                self.refuse(refusal);
                Ok(())
            }
            Message::Resolved(at) => {
                self.resolved(at);
                Ok(())
            }
        }
    }

    /// Takes a row.
    pub fn push(&mut self, row: FeedRow) -> Result<(), Problem> {
        if row.updated <= self.closed {
            self.statistics.repeats += 1;
        } else if row.is_copy() {
            self.statistics.copies += 1;
        } else if row.change == RowChange::Nothing {
            self.statistics.phantoms += 1;
        } else {
            self.statistics.rows += 1;
            let entry = Entry { at: row.updated, table: row.table.table.id, key: row.key, change: row.change };
            self.know(row.table)?;
            self.pending_bytes += entry.memory_bytes();
            self.pending.push(entry);
            if self.pending_bytes > self.spool.memory_budget_bytes() {
                return self.spill();
            }
        }
        Ok(())
    }

    /// Takes a row that cannot be carried: everything before it still comes out, and then the problem.
    pub fn refuse(&mut self, refusal: Refusal) {
        if refusal.updated <= self.closed {
            self.statistics.repeats += 1;
        } else if self.refusal.as_ref().is_none_or(|known| refusal.updated < known.updated) {
            self.refusal = Some(refusal);
        }
    }

    /// Takes a resolved timestamp. One at or before the last says nothing: a feed that reconnected begins with older
    /// ones.
    pub fn resolved(&mut self, at: Hlc) {
        if at <= self.closed {
            return;
        }
        self.closed = at;
        self.open = true;
        let (mut ready, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|entry| entry.at <= at);
        self.pending = pending;
        let ready_bytes: u64 = ready.iter().map(Entry::memory_bytes).sum();
        self.pending_bytes -= ready_bytes;
        self.ready_bytes += ready_bytes;
        // Stable: of two rows that are one, the first that came.
        ready.sort();
        // All of them are after what was ready before: that was closed before they came.
        self.ready.extend(ready);
    }

    /// Returns the next event; `None` until another resolved timestamp comes. Transactions up to the last resolved
    /// timestamp come in commit order, each once, and then a watermark there.
    pub fn next_event(&mut self) -> Result<Option<Event>, Problem> {
        if !self.open {
            return Ok(None);
        }
        let next = self.next_time().filter(|at| *at <= self.closed);
        if let Some(refusal) = self.refusal.take_if(|refusal| refusal.updated <= next.unwrap_or(self.closed)) {
            return Err(refusal.problem);
        }
        match next {
            Some(at) => self.transaction(at).map(Some),
            None => {
                self.open = false;
                Ok(Some(Event::Watermark(Position::cockroach(self.closed))))
            }
        }
    }

    /// Returns the last resolved timestamp that was taken, or where the window began.
    pub fn closed(&self) -> Hlc {
        self.closed
    }

    /// Returns how many bytes of rows are in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.pending_bytes + self.ready_bytes
    }

    /// Returns what the window did so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    fn transaction(&mut self, at: Hlc) -> Result<Event, Problem> {
        let mut assembly = Assembly::new(at, Arc::clone(&self.tables), &self.spool);
        let mut last: Option<Entry> = None;
        while self.next_time() == Some(at) {
            let entry = self.pop()?;
            match &mut last {
                Some(known) if known.is_same_row(&entry) => {
                    self.statistics.duplicates += 1;
                    if !known.absorb(entry, self.carries_old_rows(known.table)) {
                        return Err(problem::contradiction(&self.tables[&known.table].table, known));
                    }
                }
                _ => {
                    if let Some(entry) = last.replace(entry) {
                        assembly.push(entry)?;
                    }
                }
            }
        }
        if let Some(entry) = last {
            assembly.push(entry)?;
        }
        assembly.finish()
    }

    fn next_time(&self) -> Option<Hlc> {
        let ready = self.ready.front().map(|entry| entry.at);
        let spilled = self.runs.first().map(|entry| entry.at);
        ready.into_iter().chain(spilled).min()
    }

    /// Takes out the first row; there is one.
    fn pop(&mut self) -> Result<Entry, Problem> {
        match (self.ready.front(), self.runs.first()) {
            (Some(ready), Some(spilled)) if spilled <= ready => self.runs.pop(),
            (None, _) => self.runs.pop(),
            _ => {
                let entry = self.ready.pop_front().expect("it was just seen");
                self.ready_bytes -= entry.memory_bytes();
                Ok(entry)
            }
        }
    }

    fn spill(&mut self) -> Result<(), Problem> {
        let mut entries = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        entries.sort();
        tracing::debug!(rows = entries.len(), dir = %self.spool.dir().display(), "rows go to disk");
        self.statistics.runs += self.runs.add(entries)?;
        Ok(())
    }

    fn carries_old_rows(&self, table: RelationId) -> bool {
        self.tables[&table].carries_old_rows()
    }

    /// Remembers a table. Its rows are told by its identity, because the order of a transaction's rows must be the same
    /// when it is put together again: a part of it may have been applied.
    fn know(&mut self, table: Arc<TableInfo>) -> Result<(), Problem> {
        match self.tables.get(&table.table.id) {
            Some(known) if Arc::ptr_eq(known, &table) || *known == table => Ok(()),
            Some(known) => Err(problem::two_descriptions(&known.table)),
            None => {
                Arc::make_mut(&mut self.tables).insert(table.table.id, table);
                Ok(())
            }
        }
    }
}
