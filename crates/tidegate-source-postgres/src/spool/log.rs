//! The messages of one transaction until its end is known.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Change, Changes, Problem, RelationId, SourceTable};

use super::reader::{Reader, SpooledTransaction};
use super::record::{self, Record};
use super::{Spool, SpoolFile};

/// How much is gathered before it is written.
const WRITE_BYTES: usize = 256 * 1024;

/// What a message takes in memory besides its bytes once it is decoded: the change, and the places of some values.
const DECODED_BYTES: usize = size_of::<Change>() + 64;

/// The messages of one transaction, in order, as bytes: in memory first, then in a file. Descriptions of tables are
/// kept apart, each shared with whoever else knows the table; the log says from where on each holds.
///
/// Messages are copied in: a slice would keep alive the whole socket read that it is part of, for as long as the
/// transaction is open.
#[derive(Debug)]
pub(crate) struct Log {
    spool: Spool,
    tables: Vec<Arc<SourceTable>>,
    latest: HashMap<RelationId, usize>,
    messages: usize,
    buffer: Vec<u8>,
    file: Option<SpoolFile>,
}

impl Log {
    pub(crate) fn new(spool: Spool) -> Self {
        Log { spool, tables: Vec::new(), latest: HashMap::new(), messages: 0, buffer: Vec::new(), file: None }
    }

    /// Returns how much memory the log holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.buffer.capacity() as u64
    }

    /// The changes that follow see this table so.
    pub(crate) fn describe(&mut self, table: &Arc<SourceTable>) -> Result<(), Problem> {
        if self.latest.get(&table.id).is_some_and(|&at| *self.tables[at] == **table) {
            return Ok(());
        }
        let at = self.tables.len();
        self.put(&Record::description(at))?;
        self.tables.push(Arc::clone(table));
        self.latest.insert(table.id, at);
        Ok(())
    }

    /// Appends a message as it came, from a streamed block.
    pub(crate) fn message(&mut self, payload: &[u8]) -> Result<(), Problem> {
        self.messages += 1;
        self.put(&Record::message(payload.len()))?;
        self.put(payload)
    }

    /// Appends a change that was decoded already, with the description of its tables where they are new to the log.
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Problem> {
        match change {
            Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => {
                self.describe(table)?;
            }
            Change::Truncate { tables } => tables.iter().try_for_each(|table| self.describe(table))?,
            Change::Message { .. } => {}
        }
        self.messages += 1;
        self.put(&Record::message(record::message_len(change)))?;
        record::write_message(change, &mut |bytes| self.put(bytes))
    }

    /// Moves to disk what is in memory and gives the memory back.
    pub(crate) fn spill(&mut self) -> Result<(), Problem> {
        self.write_buffer()?;
        self.buffer = Vec::new();
        Ok(())
    }

    /// Ends the transaction: its changes without those of the subtransactions `aborted`. `None`: nothing is left.
    pub(crate) fn finish(mut self, mut aborted: Vec<u32>) -> Result<Option<Changes>, Problem> {
        aborted.sort_unstable();
        aborted.dedup();
        if self.file.is_some() {
            self.write_buffer()?;
        }
        match self.file {
            None => {
                self.buffer.shrink_to_fit();
                let reader = Reader::in_memory(Bytes::from(self.buffer), self.tables, aborted);
                let changes = reader.collect::<Result<Arc<[Change]>, Problem>>()?;
                Ok((!changes.is_empty()).then_some(Changes::Memory(changes)))
            }
            Some(file) => {
                let spooled = SpooledTransaction::new(file, self.tables, aborted);
                let first = spooled.reader().next().transpose()?;
                Ok(first.map(|_| Changes::Spooled(Arc::new(spooled))))
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let max = self.buffer_bytes_max();
        if self.buffer.len() + bytes.len() > max {
            self.write_buffer()?;
            if bytes.len() >= max.min(WRITE_BYTES) {
                return self.file_mut()?.append(bytes);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns how much may wait in memory: as long as it may stay there, what leaves room for it to be decoded at
    /// once.
    fn buffer_bytes_max(&self) -> usize {
        let transaction_bytes_max = usize::try_from(self.spool.transaction_bytes_max()).unwrap_or(usize::MAX);
        match self.file {
            None => transaction_bytes_max.saturating_sub(self.messages.saturating_mul(DECODED_BYTES)),
            Some(_) => transaction_bytes_max.min(WRITE_BYTES),
        }
    }

    fn write_buffer(&mut self) -> Result<(), Problem> {
        let buffer = std::mem::take(&mut self.buffer);
        self.file_mut()?.append(&buffer)?;
        // The one it had while it was in memory may be far larger than what is gathered from now on.
        if buffer.capacity() <= 2 * WRITE_BYTES {
            self.buffer = buffer;
            self.buffer.clear();
        }
        Ok(())
    }

    fn file_mut(&mut self) -> Result<&mut SpoolFile, Problem> {
        if self.file.is_none() {
            self.file = Some(self.spool.file()?);
            tracing::debug!(dir = %self.spool.dir().display(), "transaction goes to disk");
        }
        Ok(self.file.as_mut().expect("it was just made"))
    }
}
