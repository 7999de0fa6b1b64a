//! Sorted runs of rows on disk, read as one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use tidegate_model::Problem;

use super::Entry;
use crate::spool::{RecordReader, RecordWriter, Spool, decode, encode};

/// So many runs of one level become one of the next: what bounds open files and read buffers, however far behind the
/// resolved timestamp is, for one more copy of each row at each level.
const FAN_IN: usize = 16;

/// Runs of rows, the first row of all of them first.
#[derive(Debug)]
pub(super) struct Runs {
    spool: Spool,
    /// Runs that are not yet at their end.
    heads: BinaryHeap<Reverse<Head>>,
    started: u64,
}

/// A run: its first row, and the rest.
#[derive(Debug)]
struct Head {
    entry: Entry,
    rest: RecordReader,
    /// How often its rows were merged.
    level: u32,
    /// Runs in the order in which they were started: rows that are one come out in that order.
    age: u64,
}

impl Runs {
    pub(super) fn new(spool: Spool) -> Self {
        Runs { spool, heads: BinaryHeap::new(), started: 0 }
    }

    /// Returns the first row.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.heads.peek().map(|Reverse(head)| &head.entry)
    }

    /// Returns how many runs are not at their end.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Takes the first row out; there is one.
    pub(super) fn pop(&mut self) -> Result<Entry, Problem> {
        pop(&mut self.heads)
    }

    /// Writes sorted rows as a run, and merges runs where there are too many. Returns how many runs were written.
    pub(super) fn add(&mut self, sorted: Vec<Entry>) -> Result<u64, Problem> {
        let mut rows = sorted.into_iter();
        self.write(0, || Ok(rows.next()))?;
        let mut written = 1;
        let mut level = 0;
        while self.heads.iter().filter(|Reverse(head)| head.level == level).count() >= FAN_IN {
            let (mut merged, kept): (BinaryHeap<_>, BinaryHeap<_>) =
                std::mem::take(&mut self.heads).into_iter().partition(|Reverse(head)| head.level == level);
            self.heads = kept;
            level += 1;
            self.write(level, || if merged.is_empty() { Ok(None) } else { pop(&mut merged).map(Some) })?;
            written += 1;
        }
        Ok(written)
    }

    fn write(&mut self, level: u32, mut rows: impl FnMut() -> Result<Option<Entry>, Problem>) -> Result<(), Problem> {
        let mut writer = RecordWriter::new(&self.spool)?;
        while let Some(entry) = rows()? {
            writer.record(|out| encode(&entry, out))?;
        }
        let mut rest = RecordReader::new(writer.finish()?);
        if let Some(record) = rest.next()? {
            let age = self.started;
            self.started += 1;
            self.heads.push(Reverse(Head { entry: decode(record)?, rest, level, age }));
        }
        Ok(())
    }
}

fn pop(heads: &mut BinaryHeap<Reverse<Head>>) -> Result<Entry, Problem> {
    let mut first = heads.peek_mut().expect("there is a row");
    match first.0.rest.next()? {
        Some(record) => Ok(std::mem::replace(&mut first.0.entry, decode(record)?)),
        None => Ok(PeekMut::pop(first).0.entry),
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.entry.cmp(&other.entry).then(self.age.cmp(&other.age))
    }
}
