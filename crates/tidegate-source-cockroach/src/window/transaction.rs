//! One transaction while its rows come together.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_model::{
    Change, ChangeReader, Changes, Event, Hlc, Position, Problem, SpooledChanges, Timestamp, Transaction,
};

use super::{Entry, Known};
use crate::message::RowChange;
use crate::spool::{RecordReader, RecordWriter, Spool, SpoolFile, damaged, decode, encode};

/// Rows leave before others arrive: a row that arrives may need a unique value of one that leaves.
const SECTIONS: usize = 3;

fn section(change: &RowChange) -> usize {
    match change {
        RowChange::Delete(_) | RowChange::Nothing => 0,
        RowChange::Update { .. } => 1,
        RowChange::Insert(_) => 2,
    }
}

/// The rows of one transaction, each once: deletions, updates and insertions apart, in memory or on disk.
#[derive(Debug)]
pub(super) struct Assembly {
    at: Hlc,
    tables: Arc<Known>,
    spool: Spool,
    memory: [Vec<Entry>; SECTIONS],
    memory_bytes: u64,
    on_disk: bool,
    disk: [Option<RecordWriter>; SECTIONS],
}

impl Assembly {
    pub(super) fn new(at: Hlc, tables: Arc<Known>, spool: &Spool) -> Self {
        Assembly {
            at,
            tables,
            spool: spool.clone(),
            memory: Default::default(),
            memory_bytes: 0,
            on_disk: false,
            disk: Default::default(),
        }
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Problem> {
        if self.on_disk {
            return self.write(&entry);
        }
        self.memory_bytes += entry.memory_bytes() + size_of::<Change>() as u64;
        self.memory[section(&entry.change)].push(entry);
        if self.memory_bytes <= self.spool.transaction_bytes_max() {
            return Ok(());
        }
        self.on_disk = true;
        std::mem::take(&mut self.memory).into_iter().flatten().try_for_each(|entry| self.write(&entry))
    }

    fn write(&mut self, entry: &Entry) -> Result<(), Problem> {
        let writer = match &mut self.disk[section(&entry.change)] {
            Some(writer) => writer,
            none => none.insert(RecordWriter::new(&self.spool)?),
        };
        writer.record(|out| encode(entry, out))
    }

    pub(super) fn finish(self) -> Result<Event, Problem> {
        let tables = self.tables;
        let changes = if self.on_disk {
            let sections = self.disk.into_iter().flatten().map(RecordWriter::finish).collect::<Result<_, _>>()?;
            Changes::Spooled(Arc::new(SpooledTransaction { sections, tables }))
        } else {
            let entries = self.memory.into_iter().flatten();
            Changes::Memory(entries.filter_map(|entry| change(&tables, entry)).collect())
        };
        let position = Position::cockroach(self.at);
        Ok(Event::Commit(Transaction { position, committed_at: committed_at(self.at), xid: None, changes }))
    }
}

fn change(tables: &Known, entry: Entry) -> Option<Change> {
    let table = tables.get(&entry.table)?;
    entry.change(&table.table)
}

fn committed_at(at: Hlc) -> Timestamp {
    const MICROSECOND_NANOSECONDS: u64 = 1_000;
    Timestamp(i64::try_from(at.wall / MICROSECOND_NANOSECONDS).expect("a thousandth of 64 bits fits into 63"))
}

/// The changes of a transaction on disk.
#[derive(Debug)]
struct SpooledTransaction {
    sections: Vec<Arc<SpoolFile>>,
    tables: Arc<Known>,
}

impl SpooledChanges for SpooledTransaction {
    fn read(&self) -> Result<ChangeReader, Problem> {
        let sections = self.sections.iter().map(|file| RecordReader::new(Arc::clone(file)));
        Ok(Box::new(Reader { sections: sections.collect(), tables: Arc::clone(&self.tables), failed: false }))
    }

    fn bytes(&self) -> u64 {
        self.sections.iter().map(|file| file.len()).sum()
    }
}

/// Reads the changes of a transaction. Ends after an error.
#[derive(Debug)]
struct Reader {
    sections: VecDeque<RecordReader>,
    tables: Arc<Known>,
    failed: bool,
}

impl Reader {
    fn next_change(&mut self) -> Result<Option<Change>, Problem> {
        while let Some(section) = self.sections.front_mut() {
            let Some(record) = section.next()? else {
                self.sections.pop_front();
                continue;
            };
            return change(&self.tables, decode(record)?).map(Some).ok_or_else(damaged);
        }
        Ok(None)
    }
}

impl Iterator for Reader {
    type Item = Result<Change, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_change();
        self.failed = next.is_err();
        next.transpose()
    }
}
