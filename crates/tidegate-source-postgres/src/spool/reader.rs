//! Reading a log back, as changes.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tidegate_model::{Change, ChangeReader, Problem, SourceTable, SpooledChanges};

use super::record::Record;
use super::{SpoolFile, problem};
use crate::pgoutput::{Framing, Message, PROTOCOL_MAX, Relations, parse, streamed_xid};

/// How much is read at once. Changes are slices of it: it is what a few of them keep in memory.
const READ_BYTES: usize = 256 * 1024;

/// What a log says about all of its records.
#[derive(Debug)]
struct Schema {
    tables: Vec<Arc<SourceTable>>,
    /// Sorted.
    aborted: Vec<u32>,
}

impl Schema {
    fn is_aborted(&self, xid: u32) -> bool {
        self.aborted.binary_search(&xid).is_ok()
    }
}

/// The changes of a committed transaction on disk. Its file is read at offsets, so readers do not disturb each other.
#[derive(Clone, Debug)]
pub(super) struct SpooledTransaction {
    file: Arc<SpoolFile>,
    schema: Arc<Schema>,
}

impl SpooledTransaction {
    pub(super) fn new(file: SpoolFile, tables: Vec<Arc<SourceTable>>, aborted: Vec<u32>) -> Self {
        SpooledTransaction { file: Arc::new(file), schema: Arc::new(Schema { tables, aborted }) }
    }

    pub(super) fn reader(&self) -> Reader {
        let rest = Some(Rest { file: Arc::clone(&self.file), offset: 0 });
        Reader::new(Bytes::new(), rest, Arc::clone(&self.schema))
    }
}

impl SpooledChanges for SpooledTransaction {
    fn read(&self) -> Result<ChangeReader, Problem> {
        Ok(Box::new(self.reader()))
    }

    fn bytes(&self) -> u64 {
        self.file.len
    }
}

/// The part of a log that is not in memory.
#[derive(Debug)]
struct Rest {
    file: Arc<SpoolFile>,
    /// Where the bytes in memory began.
    offset: u64,
}

/// Reads changes, without those of aborted subtransactions. Ends after an error.
#[derive(Debug)]
pub(super) struct Reader {
    chunk: Bytes,
    chunk_len: usize,
    rest: Option<Rest>,
    schema: Arc<Schema>,
    relations: Relations,
    descriptions: u64,
    /// Records come in runs of one subtransaction.
    last: Option<(u32, bool)>,
    failed: bool,
}

impl Reader {
    pub(super) fn in_memory(bytes: Bytes, tables: Vec<Arc<SourceTable>>, aborted: Vec<u32>) -> Self {
        Reader::new(bytes, None, Arc::new(Schema { tables, aborted }))
    }

    fn new(chunk: Bytes, rest: Option<Rest>, schema: Arc<Schema>) -> Self {
        let (relations, chunk_len) = (Relations::default(), chunk.len());
        Reader { chunk, chunk_len, rest, schema, relations, descriptions: 0, last: None, failed: false }
    }

    fn next_change(&mut self) -> Result<Option<Change>, Problem> {
        while self.available(1)? {
            if !self.available(Record::HEADER_BYTES)? {
                return Err(damaged());
            }
            let (header, _) = self.chunk.split_first_chunk().ok_or_else(damaged)?;
            match Record::read(*header).ok_or_else(damaged)? {
                Record::Description(index) => {
                    self.chunk.advance(Record::HEADER_BYTES);
                    let table = self.schema.tables.get(index).ok_or_else(damaged)?;
                    self.relations.describe(Arc::clone(table), self.descriptions);
                    self.descriptions += 1;
                }
                Record::Message(len) => {
                    if !self.available(Record::HEADER_BYTES + len)? {
                        return Err(damaged());
                    }
                    self.chunk.advance(Record::HEADER_BYTES);
                    let payload = self.chunk.split_to(len);
                    if let Some(change) = self.change(&payload)? {
                        return Ok(Some(change));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Decodes a message, unless it was rolled back.
    fn change(&mut self, payload: &Bytes) -> Result<Option<Change>, Problem> {
        let in_log = "of a streamed or spooled transaction";
        let xid = streamed_xid(payload).map_err(|error| error.problem(in_log))?;
        let aborted = match self.last {
            Some((last, aborted)) if last == xid => aborted,
            _ => self.schema.is_aborted(xid),
        };
        self.last = Some((xid, aborted));
        if aborted {
            return Ok(None);
        }
        parse(payload, Framing::Streamed, PROTOCOL_MAX)
            .and_then(|message: Message| self.relations.change(message))
            .map_err(|error| error.problem(in_log))
    }

    /// Brings the next `len` bytes into memory; `false` where the log has fewer.
    fn available(&mut self, len: usize) -> Result<bool, Problem> {
        if self.chunk.len() >= len {
            return Ok(true);
        }
        let Some(rest) = &mut self.rest else { return Ok(false) };
        // A record that reaches past the chunk is read again from its start: simpler than to piece it together.
        let offset = rest.offset + (self.chunk_len - self.chunk.len()) as u64;
        let left = rest.file.len - offset;
        if left < len as u64 {
            return Ok(false);
        }
        let mut chunk = vec![0; len.max(READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES)))];
        rest.file.file.read_exact_at(&mut chunk, offset).map_err(|error| problem::read(&rest.file.spool, error))?;
        rest.offset = offset;
        self.chunk_len = chunk.len();
        self.chunk = Bytes::from(chunk);
        Ok(true)
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

fn damaged() -> Problem {
    Problem::bug("PG114", "spool file does not hold what was written to it", "its records cannot be told apart")
}
