//! Backlogs of transactions.

use bytes::{Bytes, BytesMut};
use tidegate_model::{Change, Event, Lsn, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableName};
use tidegate_source_postgres::assembly::Assembler;
use tidegate_source_postgres::spool::Spool;

use crate::encode;

/// How much of the stream one read from the socket brings.
const READ_BYTES: usize = 256 * 1024;

/// Messages that wait to be read, and how many changes are in them.
#[derive(Debug)]
pub struct Backlog {
    /// In order, each a slice of a large read, as a connection gives them.
    pub messages: Vec<Bytes>,
    /// Rows inserted and updated.
    pub changes: u64,
    /// Their tables; the first column is the key.
    pub tables: Vec<SourceTable>,
}

impl Backlog {
    /// What pgbench leaves: three updates and an insert in each transaction, few tellers and branches, many accounts.
    pub fn tpcb(transactions: u64) -> Backlog {
        let tables = vec![
            table(1, "pgbench_accounts", &["aid", "bid", "abalance", "filler"]),
            table(2, "pgbench_tellers", &["tid", "bid", "tbalance", "filler"]),
            table(3, "pgbench_branches", &["bid", "bbalance", "filler"]),
            table(4, "pgbench_history", &["hid", "tid", "bid", "aid", "delta", "mtime"]),
        ];
        let mut writer = Writer::default();
        for number in 1..=transactions {
            let account = (number.wrapping_mul(2_654_435_761) % 1_000_000).to_string();
            let (teller, branch) = ((number * 7 % 100).to_string(), (number % 10).to_string());
            let (delta, number_text, filler) = ("-1234", number.to_string(), " ".repeat(84));
            writer.message(|out| encode::begin(out, number * 10));
            if number == 1 {
                tables.iter().for_each(|table| writer.message(|out| encode::relation(out, None, table)));
            }
            for (kind, table, values) in [
                (b'U', &tables[0], vec![&*account, &branch, delta, &filler]),
                (b'U', &tables[1], vec![&*teller, &branch, delta, &filler]),
                (b'U', &tables[2], vec![&*branch, delta, &filler]),
                (
                    b'I',
                    &tables[3],
                    vec![&*number_text, &teller, &branch, &account, delta, "2026-01-01 00:00:00.000001"],
                ),
            ] {
                writer.message(|out| encode::row(out, kind, None, table, &values));
            }
            writer.message(|out| encode::commit(out, number * 10));
        }
        Backlog { messages: writer.finish(), changes: 4 * transactions, tables }
    }

    /// Inserts of eight columns, `rows` in each of some transactions.
    pub fn inserts(transactions: u64, rows: u64) -> Backlog {
        let tables = vec![wide()];
        let mut writer = Writer::default();
        for number in 1..=transactions {
            writer.message(|out| encode::begin(out, number * 10));
            if number == 1 {
                writer.message(|out| encode::relation(out, None, &tables[0]));
            }
            (0..rows).for_each(|row| wide_row(&mut writer, None, &tables[0], number * rows + row));
            writer.message(|out| encode::commit(out, number * 10));
        }
        Backlog { messages: writer.finish(), changes: transactions * rows, tables }
    }

    /// The same inserts in one transaction that is streamed in blocks of a thousand rows.
    pub fn streamed(rows: u64) -> Backlog {
        const XID: u32 = 7;
        const BLOCK_ROWS: u64 = 1000;
        let tables = vec![wide()];
        let mut writer = Writer::default();
        for row in 0..rows {
            if row % BLOCK_ROWS == 0 {
                if row > 0 {
                    writer.message(encode::stream_stop);
                }
                writer.message(|out| encode::stream_start(out, XID, row == 0));
            }
            if row == 0 {
                writer.message(|out| encode::relation(out, Some(XID), &tables[0]));
            }
            wide_row(&mut writer, Some(XID), &tables[0], row);
        }
        writer.message(encode::stream_stop);
        writer.message(|out| encode::stream_commit(out, XID, 10));
        Backlog { messages: writer.finish(), changes: rows, tables }
    }

    /// Puts the transactions together, and reads back those that went to disk. Returns how many changes there were.
    pub fn decode(&self, spool: &Spool) -> u64 {
        let mut changes = 0;
        self.for_each(spool, |_| changes += 1);
        changes
    }

    /// Returns all changes, decoded.
    pub fn decoded(&self, spool: &Spool) -> Vec<Change> {
        let mut changes = Vec::new();
        self.for_each(spool, |change| changes.push(change));
        changes
    }

    fn for_each(&self, spool: &Spool, mut take: impl FnMut(Change)) {
        const PROTOCOL: u8 = 4;
        let mut assembler = Assembler::new(Lsn(0), PROTOCOL, spool.clone());
        let mut events = Vec::new();
        for message in &self.messages {
            assembler.message(Lsn(0), message.clone(), &mut events).expect("the backlog is well formed");
            for event in events.drain(..) {
                let Event::Commit(transaction) = event else { continue };
                for change in transaction.changes.read().expect("the spool can be read") {
                    take(change.expect("the backlog is well formed"));
                }
            }
        }
    }
}

fn table(id: u32, name: &str, columns: &[&str]) -> SourceTable {
    const TEXT: u32 = 25;
    let column = |(index, name): (usize, &&str)| SourceColumn {
        name: (*name).into(),
        type_oid: TEXT,
        type_modifier: -1,
        identity: index == 0,
    };
    SourceTable {
        id: RelationId(id),
        name: TableName::new("public", name),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().enumerate().map(column).collect(),
    }
}

fn wide() -> SourceTable {
    table(9, "wide", &["id", "a", "b", "c", "d", "e", "f", "g"])
}

fn wide_row(writer: &mut Writer, xid: Option<u32>, table: &SourceTable, id: u64) {
    let id = id.to_string();
    let values = [&*id, "1234567", "some text of a row", "t", "2026-01-01 00:00:00", "0.25", "{\"a\": 1}", "tail"];
    writer.message(|out| encode::row(out, b'I', xid, table, &values));
}

/// Writes messages behind one another and cuts reads into slices.
#[derive(Default)]
struct Writer {
    read: BytesMut,
    ends: Vec<usize>,
    messages: Vec<Bytes>,
}

impl Writer {
    fn message(&mut self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.read);
        self.ends.push(self.read.len());
        if self.read.len() >= READ_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let read = std::mem::take(&mut self.read).freeze();
        let mut start = 0;
        for end in self.ends.drain(..) {
            self.messages.push(read.slice(start..end));
            start = end;
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backlog_is_decoded_whole() {
        const LARGE: u64 = 64 << 20;
        for backlog in [Backlog::tpcb(100), Backlog::inserts(10, 30), Backlog::streamed(2500)] {
            for memory_budget_bytes in [0, LARGE] {
                let spool = Spool::new(std::env::temp_dir(), None, memory_budget_bytes).unwrap();
                assert_eq!(backlog.decode(&spool), backlog.changes);
            }
        }
    }
}
