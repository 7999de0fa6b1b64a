use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{
    Change, Changes, NewRow, OldRow, RelationId, ReplicaIdentity, Row, SourceColumn, SourceTable, TableName, Value,
};

use super::record::{self, Record};
use super::{Log, Spool, problem};
use crate::pgoutput::{Framing, Message, PROTOCOL_MAX, Relations, parse};

fn table() -> Arc<SourceTable> {
    let column = SourceColumn { name: "v".into(), type_oid: 25, type_modifier: -1, identity: true };
    let (id, name) = (RelationId(7), TableName::new("public", "t"));
    Arc::new(SourceTable { id, name, replica_identity: ReplicaIdentity::Full, columns: vec![column] })
}

fn row(value: &[u8]) -> Row {
    [Value::Text(value)].into_iter().collect()
}

fn insert(value: &[u8]) -> Change {
    Change::Insert { table: table(), new: row(value) }
}

fn value(change: &Change) -> Vec<u8> {
    match change {
        Change::Insert { new, .. } => match new.value(0) {
            Value::Text(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_written_change_is_read_by_the_parser() {
    let mut relations = Relations::default();
    relations.describe(table(), 0);
    let unchanged: Row = [Value::Unchanged].into_iter().collect();
    for change in [
        insert(b"abc"),
        Change::Update { table: table(), old: None, new: NewRow::Full(row(b"x")) },
        Change::Update { table: table(), old: Some(OldRow::Key(row(b"x"))), new: NewRow::Partial(unchanged) },
        Change::Update { table: table(), old: Some(OldRow::Full(row(b"x"))), new: NewRow::Full(row(b"")) },
        Change::Delete { table: table(), old: OldRow::Full(row(b"x")) },
        Change::Truncate { tables: vec![table()] },
        Change::Message { prefix: "tidegate".into(), content: Bytes::from_static(b"\0") },
    ] {
        let mut bytes = Vec::new();
        let written: Result<(), io::Error> = record::write_message(&change, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        written.unwrap();
        assert_eq!(bytes.len(), record::message_len(&change));
        let message: Message = parse(&Bytes::from(bytes), Framing::Streamed, PROTOCOL_MAX).unwrap();
        let read = relations.change(message).unwrap().unwrap();
        assert_eq!(format!("{read:?}"), format!("{change:?}"));
    }
}

#[test]
fn headers_survive_their_bytes() {
    for number in [0, 1, 255, 256, 1 << 31] {
        assert_eq!(Record::read(Record::description(number)), Some(Record::Description(number)));
        assert_eq!(Record::read(Record::message(number)), Some(Record::Message(number)));
    }
    assert_eq!(Record::read([2, 0, 0, 0, 0]), None);
}

#[test]
fn values_of_every_size_survive_the_edges_of_what_is_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), None, 1 << 20).unwrap();
    // Around the sizes of writes and reads, so that records begin, end and lie across their edges.
    let sizes = [0, 1, 100, 4_000, 100_000, 262_100, 262_124, 262_144, 262_145, 300_000, 1_000_000, 3];
    let values: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; sizes[usize::from(n) % sizes.len()]]).collect();
    let mut log = Log::new(spool.clone());
    for value in &values {
        log.change(&insert(value)).unwrap();
        assert!(log.memory_bytes() <= 1 << 20);
    }
    let changes = log.finish(Vec::new()).unwrap().unwrap();
    let Changes::Spooled(spooled) = &changes else { panic!("in memory") };
    assert_eq!(spooled.bytes(), spool.disk_bytes());
    for _ in 0..2 {
        let read: Vec<Vec<u8>> = spooled.read().unwrap().map(|change| value(&change.unwrap())).collect();
        assert!(read == values);
    }
}

#[test]
fn a_transaction_on_disk_takes_no_memory_for_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), None, 4 << 20).unwrap();
    let mut log = Log::new(spool.clone());
    for _ in 0..200_000 {
        log.change(&insert(b"some row of a giant transaction")).unwrap();
        assert!(log.memory_bytes() <= 2 << 20);
    }
    let changes = log.finish(Vec::new()).unwrap().unwrap();
    assert!(spool.disk_bytes() > 8 << 20);
    assert_eq!(changes.memory_bytes(), 0);
    assert_eq!(changes.read().unwrap().filter(Result::is_ok).count(), 200_000);
}

#[test]
fn a_damaged_file_gives_a_problem_and_then_ends() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), None, 0).unwrap();
    let mut file = spool.file().unwrap();
    file.append(&Record::message(100)).unwrap();
    file.append(b"I").unwrap();
    let spooled = super::reader::SpooledTransaction::new(file, Vec::new(), Vec::new());
    let mut reader = spooled.reader();
    assert_eq!(reader.next().unwrap().unwrap_err().code, "PG114");
    assert!(reader.next().is_none());
}

#[test]
fn a_full_disk_and_a_faulty_one_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), None, 0).unwrap();
    let (no_space, input_output) = (28, 5);
    let full = problem::write(&spool, io::Error::from_raw_os_error(no_space));
    assert_eq!(full.code, "PG111");
    assert!(full.next.contains("--spool-dir"), "{}", full.next);
    assert_eq!(problem::write(&spool, io::Error::from_raw_os_error(input_output)).code, "PG112");
    assert_eq!(problem::read(&spool, io::Error::from_raw_os_error(input_output)).code, "PG112");
}

#[test]
fn a_directory_that_cannot_be_used_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let problem = Spool::new(&missing, None, 0).unwrap_err();
    assert_eq!(problem.code, "PG113");
    assert!(problem.what.contains(&missing.display().to_string()));
}

#[test]
fn half_of_the_free_space_is_the_default_cap() {
    let dir = tempfile::tempdir().unwrap();
    let before = super::free_bytes(dir.path()).unwrap() / 2;
    let cap = Spool::new(dir.path(), None, 0).unwrap().bytes_max();
    // Others use the disk meanwhile.
    assert!(cap > before / 2 && cap < before.saturating_mul(2), "{cap} of {before}");
}
