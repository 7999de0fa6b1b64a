//! Files of records: written once from the start, read at offsets.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tidegate_model::Problem;

use super::record::damaged;
use super::{Spool, problem};

/// How much is gathered before it is written, and how much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A file without a name that only grows. Dropping it frees its disk space, and its share of the cap.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    file: File,
    len: u64,
    spool: Spool,
}

impl SpoolFile {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.spool.reserve(bytes.len() as u64)?;
        // Counted before it is written, so that a failed write is given back as well.
        self.len += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| problem::write(&self.spool, error))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.release(self.len);
    }
}

/// Writes records, each behind its length.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    file: SpoolFile,
    buffer: Vec<u8>,
}

impl RecordWriter {
    pub(crate) fn new(spool: &Spool) -> Result<Self, Problem> {
        let file = tempfile::tempfile_in(spool.dir()).map_err(|error| problem::directory(spool.dir(), error))?;
        Ok(RecordWriter { file: SpoolFile { file, len: 0, spool: spool.clone() }, buffer: Vec::new() })
    }

    /// Appends the record that `write` writes.
    pub(crate) fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Problem> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; size_of::<u64>()]);
        write(&mut self.buffer);
        let len = (self.buffer.len() - start - size_of::<u64>()) as u64;
        self.buffer[start..start + size_of::<u64>()].copy_from_slice(&len.to_le_bytes());
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> Result<Arc<SpoolFile>, Problem> {
        self.flush()?;
        Ok(Arc::new(self.file))
    }

    fn flush(&mut self) -> Result<(), Problem> {
        self.file.append(&self.buffer)?;
        self.buffer.clear();
        // A wide row must not keep its memory for the narrow ones behind it.
        self.buffer.shrink_to(2 * CHUNK_BYTES);
        Ok(())
    }
}

/// Reads the records of a file from the first one. Readers of one file do not disturb each other.
#[derive(Debug)]
pub(crate) struct RecordReader {
    file: Arc<SpoolFile>,
    offset: u64,
    chunk: Bytes,
}

impl RecordReader {
    pub(crate) fn new(file: Arc<SpoolFile>) -> Self {
        RecordReader { file, offset: 0, chunk: Bytes::new() }
    }

    /// Returns the next record; `None` after the last one. The record holds no more memory than itself.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.chunk.is_empty() && self.offset == self.file.len {
            return Ok(None);
        }
        let mut len = [0; size_of::<u64>()];
        self.fill(&mut len)?;
        let len = usize::try_from(u64::from_le_bytes(len)).map_err(|_| damaged())?;
        if len as u64 > self.file.len - self.offset + self.chunk.len() as u64 {
            return Err(damaged());
        }
        let mut record = vec![0; len];
        self.fill(&mut record)?;
        Ok(Some(Bytes::from(record)))
    }

    fn fill(&mut self, mut into: &mut [u8]) -> Result<(), Problem> {
        while !into.is_empty() {
            if self.chunk.is_empty() {
                self.read_chunk()?;
            }
            let len = into.len().min(self.chunk.len());
            let (now, later) = into.split_at_mut(len);
            self.chunk.copy_to_slice(now);
            into = later;
        }
        Ok(())
    }

    fn read_chunk(&mut self) -> Result<(), Problem> {
        let left = self.file.len - self.offset;
        let len = CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES));
        if len == 0 {
            return Err(damaged());
        }
        let mut chunk = vec![0; len];
        self.file
            .file
            .read_exact_at(&mut chunk, self.offset)
            .map_err(|error| problem::read(&self.file.spool, error))?;
        self.offset += len as u64;
        self.chunk = Bytes::from(chunk);
        Ok(())
    }
}
