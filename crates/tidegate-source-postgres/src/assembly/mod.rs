//! From messages to whole transactions in commit order.
//!
//! ```text
//!   Begin, changes, Commit ------------------> PlainTransaction ---------+
//!                                                                        v
//!   Stream Start, changes, Stream Stop (many, -> StreamedTransaction --> Event::Commit | Event::Watermark
//!   interleaved), then Stream Commit             (one for each xid)
//! ```
//!
//! Transactions that are not small wait in a [`Log`](crate::spool), in memory or on disk. What the server takes for
//! known about tables is followed exactly: it describes a table again only after something about it may have changed.
//!
//! - A description inside Begin .. Commit holds from there on, also if the transaction itself is dropped.
//! - In a streamed transaction every table is described anew. That counts for the others from its Stream Commit on,
//!   unless a later description is known by then, and never if it is rolled back.
//! - A description made inside a subtransaction holds for the whole streamed transaction, also if that subtransaction
//!   is rolled back: the server does not repeat it.
//!
//! Where it is asked to, an assembler drops what the migration wrote itself, in its other direction.

mod block;
mod plain;
mod problem;
mod streamed;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{
    Change, Changes, Event, Lsn, MESSAGE_PREFIX, MigrationName, Position, Problem, SourceTable, Transaction,
    is_applied_message,
};

use crate::pgoutput::{CommitPoint, Framing, Message, Relations, parse};
use crate::spool::Spool;
use block::Block;
use plain::PlainTransaction;
use problem::AssemblyError;
use streamed::StreamedTransaction;
use writer::{Own, Writer};

/// Puts transactions together. Pure and synchronous but for the spool's files: it blocks on disk, so it runs on a
/// thread of its own. One for each connection: after a reconnection the server sends everything anew that is not
/// complete. After an error it is finished.
#[derive(Debug)]
pub struct Assembler {
    protocol: u8,
    spool: Spool,
    own: Own,
    /// Transactions that were dropped as our own.
    dropped: u64,
    /// What ends here or before was applied already.
    start: Lsn,
    /// The position of the last event.
    emitted: Lsn,
    relations: Relations,
    /// How many descriptions of tables came so far.
    descriptions: u64,
    block: Block,
    /// Streamed transactions in progress, but for the one whose block is open.
    streams: HashMap<u32, StreamedTransaction>,
    /// What `streams` holds in memory.
    streams_memory_bytes: u64,
    /// Room for the next transaction's changes: most are small, and one is like the other.
    spare: Vec<Change>,
}

impl Assembler {
    /// Starts where the stream of a new connection starts. `protocol` (1 to 4) is the version that was agreed on;
    /// transactions ending at or before `start` are dropped.
    pub fn new(start: Lsn, protocol: u8, spool: Spool) -> Self {
        Assembler {
            protocol,
            spool,
            own: Own::default(),
            dropped: 0,
            start,
            emitted: start,
            relations: Relations::default(),
            descriptions: 0,
            block: Block::None,
            streams: HashMap::new(),
            streams_memory_bytes: 0,
            spare: Vec::new(),
        }
    }

    /// Drops the transactions that this migration wrote itself, and no others. Their ends become watermarks.
    pub fn dropping(mut self, name: &MigrationName) -> Self {
        self.own = Own::of(name);
        self
    }

    /// Returns how many transactions were dropped as our own.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes one pgoutput message, which came at `wal_start`. Events come out in commit order, and their positions
    /// rise.
    pub fn message(&mut self, wal_start: Lsn, payload: Bytes, out: &mut Vec<Event>) -> Result<(), Problem> {
        let taken = match self.block {
            Block::Streamed { .. } => self.in_stream(&payload),
            Block::None | Block::Plain(_) => self.outside_stream(&payload, out),
        };
        taken.map_err(|error| error.problem(wal_start))?;
        self.keep_within_budget()
    }

    /// Takes a keepalive: everything that ends at or before `wal_end` was sent. Says nothing while a block is open.
    pub fn keepalive(&mut self, wal_end: Lsn, out: &mut Vec<Event>) {
        if matches!(self.block, Block::None) {
            self.watermark(wal_end, out);
        }
    }

    fn outside_stream(&mut self, payload: &Bytes, out: &mut Vec<Event>) -> Result<(), AssemblyError> {
        let message = parse(&self.detached(payload), Framing::Plain, self.protocol)?;
        match message {
            Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. } | Message::Truncate { .. } => {
                self.change(payload, message)
            }
            Message::Logical { transactional, ref prefix, ref content, .. } => {
                let is_kept = match &mut self.block {
                    Block::Plain(transaction) if transactional => {
                        transaction.writer.wrote_message(self.own.wrote_message(prefix, content))
                    }
                    _ => true,
                };
                if is_kept && is_passed_on(transactional, prefix, content) {
                    self.change(payload, message)
                } else {
                    Ok(())
                }
            }
            Message::Begin { final_lsn, xid, .. } => self.begin(payload, final_lsn, xid),
            Message::Commit(commit) => self.commit(payload, commit, out),
            Message::Relation { table, .. } => {
                self.describe(table);
                Ok(())
            }
            Message::Origin { name, .. } => self.origin(payload, &name),
            Message::Type { .. } => Ok(()),
            Message::StreamStart { xid, first_segment } => self.stream_start(payload, xid, first_segment),
            Message::StreamCommit { xid, commit } => self.stream_commit(payload, xid, commit, out),
            Message::StreamAbort { xid, subxid, .. } => self.stream_abort(payload, xid, subxid),
            Message::StreamStop => Err(self.out_of_order(payload)),
        }
    }

    /// Returns a message that may be kept. What is read is full of streamed rows while transactions are in progress,
    /// and a small transaction between them must not keep all of it in memory until it is applied.
    fn detached(&self, payload: &Bytes) -> Bytes {
        if self.streams.is_empty() { payload.clone() } else { Bytes::copy_from_slice(payload) }
    }

    fn in_stream(&mut self, payload: &Bytes) -> Result<(), AssemblyError> {
        let Block::Streamed { transaction, .. } = &mut self.block else { return Err(self.out_of_order(payload)) };
        // Changes are decoded when the transaction has been committed: many never are.
        if let Some(b'I' | b'U' | b'D' | b'T') = payload.first() {
            return if transaction.writer.wrote_change() { Ok(transaction.log.message(payload)?) } else { Ok(()) };
        }
        match parse(payload, Framing::Streamed, self.protocol)? {
            Message::Logical { transactional, prefix, content, .. } => {
                let is_own = self.own.wrote_message(&prefix, &content);
                let is_kept = transactional && transaction.writer.wrote_message(is_own);
                if is_kept && is_passed_on(transactional, &prefix, &content) {
                    transaction.log.message(payload)?;
                }
                Ok(())
            }
            Message::Relation { table, .. } => {
                self.descriptions += 1;
                Ok(transaction.describe(table, self.descriptions, &self.relations)?)
            }
            Message::Origin { name, .. } => self.origin(payload, &name),
            Message::Type { .. } => Ok(()),
            Message::StreamStop => {
                if let Block::Streamed { xid, transaction } = std::mem::take(&mut self.block) {
                    self.streams_memory_bytes += transaction.log.memory_bytes();
                    self.streams.insert(xid, transaction);
                }
                Ok(())
            }
            Message::Insert { .. }
            | Message::Update { .. }
            | Message::Delete { .. }
            | Message::Truncate { .. }
            | Message::Begin { .. }
            | Message::Commit(_)
            | Message::StreamStart { .. }
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => Err(self.out_of_order(payload)),
        }
    }

    fn begin(&mut self, payload: &[u8], final_lsn: Lsn, xid: u32) -> Result<(), AssemblyError> {
        let Block::None = self.block else { return Err(self.out_of_order(payload)) };
        self.block = Block::Plain(PlainTransaction::new(final_lsn, xid, std::mem::take(&mut self.spare)));
        Ok(())
    }

    /// Takes where a transaction came from. What is known of one of our own by then is let go.
    fn origin(&mut self, payload: &[u8], origin: &str) -> Result<(), AssemblyError> {
        let is_own = self.own.is_origin(origin);
        let is_known = match &mut self.block {
            Block::None => false,
            Block::Plain(transaction) => transaction.came_from(is_own),
            Block::Streamed { transaction, .. } => transaction.came_from(is_own, &self.spool),
        };
        if is_known { Ok(()) } else { Err(self.out_of_order(payload)) }
    }

    fn change(&mut self, payload: &[u8], message: Message) -> Result<(), AssemblyError> {
        let Block::Plain(transaction) = &mut self.block else { return Err(self.out_of_order(payload)) };
        if !transaction.writer.wrote_change() {
            return Ok(());
        }
        match self.relations.change(message)? {
            Some(change) => Ok(transaction.push(change, &self.spool)?),
            None => Ok(()),
        }
    }

    fn describe(&mut self, table: SourceTable) {
        self.descriptions += 1;
        let table = self.relations.same(&table).unwrap_or_else(|| Arc::new(table));
        self.relations.describe(table, self.descriptions);
    }

    fn commit(&mut self, payload: &[u8], commit: CommitPoint, out: &mut Vec<Event>) -> Result<(), AssemblyError> {
        let Block::Plain(transaction) = std::mem::take(&mut self.block) else {
            return Err(self.out_of_order(payload));
        };
        if transaction.final_lsn != commit.lsn {
            return Err(AssemblyError::OtherCommit { began: transaction.final_lsn, committed: commit.lsn });
        }
        if !self.was_applied(commit)? {
            let (writer, xid) = (transaction.writer, transaction.xid);
            let (changes, spare) = transaction.finish()?;
            self.spare = spare;
            self.emit(commit, xid, writer, changes, out);
        }
        Ok(())
    }

    fn stream_start(&mut self, payload: &[u8], xid: u32, first_segment: bool) -> Result<(), AssemblyError> {
        let Block::None = self.block else { return Err(self.out_of_order(payload)) };
        let transaction = match (self.take_stream(xid), first_segment) {
            (Some(transaction), false) => transaction,
            (None, true) => StreamedTransaction::new(&self.spool),
            (Some(_), true) => {
                // Rolled back by a crash of the server: early minor versions do not tell.
                tracing::debug!(xid, "streamed transaction begins again, its earlier changes are dropped");
                StreamedTransaction::new(&self.spool)
            }
            (None, false) => return Err(AssemblyError::MissingStream { xid }),
        };
        self.block = Block::Streamed { xid, transaction };
        Ok(())
    }

    fn stream_commit(
        &mut self,
        payload: &[u8],
        xid: u32,
        commit: CommitPoint,
        out: &mut Vec<Event>,
    ) -> Result<(), AssemblyError> {
        let Block::None = self.block else { return Err(self.out_of_order(payload)) };
        let applied = self.was_applied(commit)?;
        let Some(transaction) = self.take_stream(xid) else {
            return if applied { Ok(()) } else { Err(AssemblyError::MissingStream { xid }) };
        };
        self.relations.describe_all(transaction.relations);
        if !applied {
            let changes = transaction.log.finish(transaction.aborted)?;
            self.emit(commit, xid, transaction.writer, changes, out);
        }
        Ok(())
    }

    fn stream_abort(&mut self, payload: &[u8], xid: u32, subxid: u32) -> Result<(), AssemblyError> {
        let Block::None = self.block else { return Err(self.out_of_order(payload)) };
        if xid == subxid {
            self.take_stream(xid);
        } else if let Some(transaction) = self.streams.get_mut(&xid) {
            transaction.aborted.push(subxid);
        }
        // Of what was never streamed nothing is to be taken back.
        Ok(())
    }

    fn take_stream(&mut self, xid: u32) -> Option<StreamedTransaction> {
        let transaction = self.streams.remove(&xid)?;
        self.streams_memory_bytes -= transaction.log.memory_bytes();
        Some(transaction)
    }

    /// Returns whether this commit was applied before the stream began.
    fn was_applied(&self, commit: CommitPoint) -> Result<bool, AssemblyError> {
        if commit.end_lsn <= self.start {
            return Ok(true);
        }
        if commit.end_lsn <= self.emitted {
            return Err(AssemblyError::Backwards { end: commit.end_lsn, emitted: self.emitted });
        }
        Ok(false)
    }

    fn emit(&mut self, commit: CommitPoint, xid: u32, writer: Writer, changes: Option<Changes>, out: &mut Vec<Event>) {
        self.dropped += u64::from(writer == Writer::Us);
        let Some(changes) = changes else { return self.watermark(commit.end_lsn, out) };
        self.emitted = commit.end_lsn;
        let (position, committed_at) = (Position::postgres(commit.end_lsn), commit.committed_at);
        out.push(Event::Commit(Transaction { position, committed_at, xid: Some(xid), changes }));
    }

    fn watermark(&mut self, lsn: Lsn, out: &mut Vec<Event>) {
        if lsn <= self.emitted {
            return;
        }
        self.emitted = lsn;
        // One says what several in a row do: a server of version 14 sends every empty transaction.
        match out.last_mut() {
            Some(Event::Watermark(position)) => *position = Position::postgres(lsn),
            _ => out.push(Event::Watermark(Position::postgres(lsn))),
        }
    }

    /// Moves the largest transactions to disk until the rest fits.
    fn keep_within_budget(&mut self) -> Result<(), Problem> {
        let mut memory_bytes = self.streams_memory_bytes + self.block.memory_bytes();
        while memory_bytes > self.spool.memory_budget_bytes() {
            let open = self.block.memory_bytes();
            let largest = self.streams.values_mut().max_by_key(|transaction| transaction.log.memory_bytes());
            match largest.filter(|transaction| transaction.log.memory_bytes() > open) {
                Some(transaction) => {
                    self.streams_memory_bytes -= transaction.log.memory_bytes();
                    transaction.log.spill()?;
                }
                None => self.block.spill(&self.spool)?,
            }
            memory_bytes = self.streams_memory_bytes + self.block.memory_bytes();
        }
        self.spool.set_memory_bytes(memory_bytes);
        Ok(())
    }

    fn out_of_order(&self, payload: &[u8]) -> AssemblyError {
        AssemblyError::OutOfOrder { kind: payload.first().copied().unwrap_or_default(), place: self.block.name() }
    }
}

impl Drop for Assembler {
    fn drop(&mut self) {
        self.spool.set_memory_bytes(0);
    }
}

/// Whether a logical message is a change of its transaction: one of ours that asks for something, as a drain marker.
/// One that is not transactional has no place in commit order.
fn is_passed_on(transactional: bool, prefix: &str, content: &[u8]) -> bool {
    transactional && prefix == MESSAGE_PREFIX && !is_applied_message(content)
}
