//! A server's side of the stream, and events in a form that compares.

mod interleaving;
mod order;
mod own;
mod relations;
mod spooling;

use bytes::Bytes;
use tidegate_model::{
    Change, ChangeReader, Event, Lsn, MESSAGE_PREFIX, MigrationName, NewRow, OldRow, Position, Problem, RelationId,
    ReplicaIdentity, Row, SourceColumn, SourceTable, Stream, TableName, Timestamp, Value,
};

use super::Assembler;
use crate::pgoutput::encode::encode;
use crate::pgoutput::{CommitPoint, Message, PROTOCOL_MAX};
use crate::spool::Spool;

pub(super) const LARGE: u64 = 64 << 20;

/// An assembler with its spool, and what came out.
pub(super) struct Run {
    pub(super) assembler: Assembler,
    pub(super) spool: Spool,
    pub(super) out: Vec<Event>,
    _dir: tempfile::TempDir,
}

impl Run {
    pub(super) fn new(start: u64, memory_budget_bytes: u64) -> Self {
        Run::capped(start, memory_budget_bytes, LARGE)
    }

    pub(super) fn capped(start: u64, memory_budget_bytes: u64, bytes_max: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), Some(bytes_max), memory_budget_bytes).unwrap();
        let assembler = Assembler::new(Lsn(start), PROTOCOL_MAX, spool.clone());
        Run { assembler, spool, out: Vec::new(), _dir: dir }
    }

    /// Drops what the migration `orders` wrote.
    pub(super) fn dropping(mut self) -> Self {
        self.assembler = self.assembler.dropping(&name("orders"));
        self
    }

    pub(super) fn send(&mut self, message: &Message) -> Result<(), Problem> {
        self.assembler.message(Lsn(1), encode(message), &mut self.out)?;
        assert!(self.spool.memory_bytes() <= self.spool.memory_budget_bytes(), "the memory budget was passed");
        Ok(())
    }

    pub(super) fn all(&mut self, messages: &[Message]) {
        for message in messages {
            self.send(message).unwrap_or_else(|problem| panic!("{message:?}: {problem}"));
        }
    }

    /// Returns the code of the problem that this message makes.
    pub(super) fn code(&mut self, message: &Message) -> &'static str {
        self.send(message).expect_err("the message was taken").code
    }

    pub(super) fn keepalive(&mut self, wal_end: u64) {
        self.assembler.keepalive(Lsn(wal_end), &mut self.out);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.out.iter().map(Seen::of).collect()
    }

    /// Returns the tables of all changes, in order.
    pub(super) fn tables(&self) -> Vec<std::sync::Arc<SourceTable>> {
        let mut tables = Vec::new();
        for event in &self.out {
            let Event::Commit(transaction) = event else { continue };
            for change in transaction.changes.read().unwrap() {
                match change.unwrap() {
                    Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => {
                        tables.push(table);
                    }
                    Change::Truncate { tables: emptied } => tables.extend(emptied),
                    Change::Message { .. } => {}
                }
            }
        }
        tables
    }
}

/// An event, with its changes read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Commit(u64, Vec<SeenChange>),
    Watermark(u64),
}

impl Seen {
    fn of(event: &Event) -> Seen {
        let lsn = |position: &Position| position.lsn().expect("a PostgreSQL position").0;
        match event {
            Event::Watermark(position) => Seen::Watermark(lsn(position)),
            Event::Commit(transaction) => {
                Seen::Commit(lsn(&transaction.position), read(transaction.changes.read().unwrap()))
            }
        }
    }
}

pub(super) fn read(changes: ChangeReader) -> Vec<SeenChange> {
    changes.map(|change| SeenChange::of(change.unwrap())).collect()
}

/// A change, by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SeenChange {
    Insert(SourceTable, Row),
    Update(SourceTable, Option<OldRow>, NewRow),
    Delete(SourceTable, OldRow),
    Truncate(Vec<SourceTable>),
    Message(String, Bytes),
}

impl SeenChange {
    fn of(change: Change) -> SeenChange {
        match change {
            Change::Insert { table, new } => SeenChange::Insert((*table).clone(), new),
            Change::Update { table, old, new } => SeenChange::Update((*table).clone(), old, new),
            Change::Delete { table, old } => SeenChange::Delete((*table).clone(), old),
            Change::Truncate { tables } => SeenChange::Truncate(tables.iter().map(|table| (**table).clone()).collect()),
            Change::Message { prefix, content } => SeenChange::Message(prefix.to_string(), content),
        }
    }
}

/// A table with a key and one more column of this name.
pub(super) fn table(id: u32, second: &str) -> SourceTable {
    let column = |name: &str, identity| SourceColumn { name: name.into(), type_oid: 25, type_modifier: -1, identity };
    SourceTable {
        id: RelationId(id),
        name: TableName::new("public", format!("t{id}")),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column("id", true), column(second, false)],
    }
}

pub(super) fn row(id: u32, second: &str) -> Row {
    let id = id.to_string();
    [Value::Text(id.as_bytes()), Value::Text(second.as_bytes())].into_iter().collect()
}

/// The commit that ends at `end`.
pub(super) fn point(end: u64) -> CommitPoint {
    CommitPoint { lsn: Lsn(end - 1), end_lsn: Lsn(end), committed_at: Timestamp(0) }
}

pub(super) fn begin(end: u64) -> Message {
    Message::Begin { final_lsn: Lsn(end - 1), committed_at: Timestamp(0), xid: 1 }
}

pub(super) fn commit(end: u64) -> Message {
    Message::Commit(point(end))
}

pub(super) fn describe(xid: Option<u32>, table: SourceTable) -> Message {
    Message::Relation { xid, table }
}

pub(super) fn insert(xid: Option<u32>, table: u32, id: u32) -> Message {
    Message::Insert { xid, relation: RelationId(table), new: row(id, "x") }
}

pub(super) fn inserted(table: SourceTable, id: u32) -> SeenChange {
    SeenChange::Insert(table, row(id, "x"))
}

pub(super) fn logical(xid: Option<u32>, transactional: bool, prefix: &str) -> Message {
    let (lsn, content) = (Lsn(1), Bytes::from_static(b"marker"));
    Message::Logical { xid, transactional, lsn, prefix: prefix.to_owned(), content }
}

/// The message that an applied transaction of this migration begins with.
pub(super) fn applied(xid: Option<u32>, migration: &str) -> Message {
    let content = Bytes::from(name(migration).applied_message(Stream::Reverse, 3));
    Message::Logical { xid, transactional: true, lsn: Lsn(1), prefix: MESSAGE_PREFIX.to_owned(), content }
}

pub(super) fn origin(name: &str) -> Message {
    Message::Origin { lsn: Lsn(0), name: name.to_owned() }
}

pub(super) fn name(text: &str) -> MigrationName {
    text.parse().unwrap()
}

pub(super) fn marker() -> SeenChange {
    SeenChange::Message(MESSAGE_PREFIX.to_owned(), Bytes::from_static(b"marker"))
}

pub(super) fn start(xid: u32, first_segment: bool) -> Message {
    Message::StreamStart { xid, first_segment }
}

pub(super) fn stream_commit(xid: u32, end: u64) -> Message {
    Message::StreamCommit { xid, commit: point(end) }
}

pub(super) fn abort(xid: u32, subxid: u32) -> Message {
    Message::StreamAbort { xid, subxid, at: None }
}
