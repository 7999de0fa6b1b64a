use std::io;

use bytes::Bytes;
use tidegate_model::{Hlc, OldRow, RelationId, Row, Value};

use super::*;
use crate::message::RowChange;
use crate::window::Entry;

fn spool(dir: &tempfile::TempDir) -> Spool {
    Spool::new(dir.path(), None, 0).unwrap()
}

fn entry(change: RowChange) -> Entry {
    let at = Hlc { wall: u64::MAX, logical: 7 };
    Entry { at, table: RelationId(9), key: Bytes::from_static(b"[1]"), change }
}

#[test]
fn every_entry_survives_its_record() {
    let values = [Value::Null, Value::Unchanged, Value::Text(b"x"), Value::Binary(b"\0\x01"), Value::Text(b"")];
    let row: Row = values.into_iter().collect();
    let other: Row = [Value::Text(b"other")].into_iter().collect();
    for change in [
        RowChange::Insert(row.clone()),
        RowChange::Update { old: None, new: row.clone() },
        RowChange::Update { old: Some(other.clone()), new: row.clone() },
        RowChange::Delete(OldRow::Full(row.clone())),
        RowChange::Delete(OldRow::Key(row.clone())),
        RowChange::Insert(std::iter::empty().collect()),
        RowChange::Nothing,
    ] {
        let mut record = Vec::new();
        encode(&entry(change.clone()), &mut record);
        let read = decode(Bytes::from(record.clone())).unwrap();
        assert_eq!(
            (read.at, read.table, &read.key[..]),
            (Hlc { wall: u64::MAX, logical: 7 }, RelationId(9), &b"[1]"[..])
        );
        assert_eq!(read.change, change);
        for end in 0..record.len() {
            let problem = decode(Bytes::copy_from_slice(&record[..end])).unwrap_err();
            assert_eq!(problem.code, "CR114");
        }
    }
}

#[test]
fn records_of_every_size_survive_the_edges_of_what_is_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    // Around the sizes of writes and reads, so that records begin, end and lie across their edges.
    let sizes = [0, 1, 100, 4_000, 65_528, 65_527, 65_536, 65_537, 300_000, 1_000_000, 3];
    let records: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; sizes[usize::from(n) % sizes.len()]]).collect();
    let mut writer = RecordWriter::new(&spool).unwrap();
    for record in &records {
        writer.record(|out| out.extend_from_slice(record)).unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(file.len(), spool.disk_bytes());
    for _ in 0..2 {
        let mut reader = RecordReader::new(Arc::clone(&file));
        for record in &records {
            assert!(reader.next().unwrap().unwrap() == record[..]);
        }
        assert!(reader.next().unwrap().is_none() && reader.next().unwrap().is_none());
    }
    drop(file);
    assert_eq!(spool.disk_bytes(), 0);
}

#[test]
fn a_full_disk_and_a_faulty_one_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir);
    let (no_space, input_output) = (28, 5);
    let full = problem::write(&spool, io::Error::from_raw_os_error(no_space));
    assert_eq!(full.code, "CR111");
    assert!(full.next.contains("--spool-dir"), "{}", full.next);
    assert_eq!(problem::write(&spool, io::Error::from_raw_os_error(input_output)).code, "CR112");
    assert_eq!(problem::read(&spool, io::Error::from_raw_os_error(input_output)).code, "CR112");
}

#[test]
fn a_directory_that_cannot_be_used_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let problem = Spool::new(&missing, None, 0).unwrap_err();
    assert_eq!(problem.code, "CR113");
    assert!(problem.what.contains(&missing.display().to_string()));
}

#[test]
fn half_of_the_free_space_is_the_default_cap() {
    let dir = tempfile::tempdir().unwrap();
    let before = super::free_bytes(dir.path()).unwrap() / 2;
    let cap = spool(&dir).bytes_max();
    // Others use the disk meanwhile.
    assert!(cap > before / 2 && cap < before.saturating_mul(2), "{cap} of {before}");
}

#[test]
fn what_does_not_fit_under_the_cap_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), Some(100), 0).unwrap();
    let mut writer = RecordWriter::new(&spool).unwrap();
    writer.record(|out| out.extend_from_slice(&[0; 93])).unwrap();
    assert_eq!(writer.finish().unwrap_err().code, "CR110");
    assert_eq!(spool.disk_bytes(), 0);
}
