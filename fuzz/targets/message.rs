//! Rows of a changefeed. The input is the three columns of a row, a line for the table, a line for the key, and the
//! value; an empty line is NULL.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tidegate_model::{Event, Hlc, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableName};
use tidegate_source_cockroach::message::{Decoder, Envelope, FeedRow, Message, RowChange};
use tidegate_source_cockroach::spool::Spool;
use tidegate_source_cockroach::table::TableInfo;
use tidegate_source_cockroach::value::Kind;
use tidegate_source_cockroach::window::Window;

/// A table with a column of each kind, and one that is told by the hidden `rowid` only.
static TABLES: LazyLock<[Arc<TableInfo>; 2]> = LazyLock::new(|| {
    let types = [
        ("id", "INT8"),
        ("a", "STRING[]"),
        ("b", "BYTES"),
        ("d", "DECIMAL"),
        ("f", "FLOAT8"),
        ("g", "GEOMETRY"),
        ("j", "JSONB"),
        ("o", "OID"),
        ("s", "STRING"),
        ("t", "TIMESTAMPTZ"),
        ("u", "DATE"),
        ("v", "VECTOR"),
        ("w", "TIMETZ"),
        ("x", "BOOL"),
    ];
    [table(1, "t", &types, &[], &["id"]), table(2, "n", &[("s", "STRING")], &["rowid"], &["rowid"])]
});

fn table(id: u32, name: &str, types: &[(&str, &str)], hidden: &[&str], key: &[&str]) -> Arc<TableInfo> {
    let column =
        |name: &str| SourceColumn { name: name.into(), type_oid: 25, type_modifier: -1, identity: key.contains(&name) };
    let replica_identity = if hidden.is_empty() { ReplicaIdentity::Default } else { ReplicaIdentity::Full };
    let columns = types.iter().map(|(name, _)| column(name)).collect();
    let table = SourceTable { id: RelationId(id), name: TableName::new("public", name), replica_identity, columns };
    let kinds = types.iter().map(|(_, kind)| Kind::of_type(kind).expect("it is a type")).collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
    Arc::new(TableInfo::new("db", Arc::new(table), kinds, names(hidden), names(key)))
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let (table, key, value) = (part(), part(), part().unwrap_or_default());
    for diff in [true, false] {
        let mut decoder = Decoder::new(Envelope::Wrapped { diff }, TABLES.iter().cloned());
        let first = decoder.decode(table, key, value);
        let again = decoder.decode(table, key, value);
        assert_eq!(format!("{first:?}"), format!("{again:?}"), "a decoder remembers nothing");
        if let Ok(Message::Row(row)) = first {
            check(row);
        }
    }
});

/// A row that is taken comes out of a window, as one transaction at its time.
fn check(row: FeedRow) {
    let spool = Spool::new(std::env::temp_dir(), None, u64::MAX).expect("the directory is there");
    let mut window = Window::new(Hlc::default(), spool);
    let comes_out = row.updated > Hlc::default() && !row.is_copy() && row.change != RowChange::Nothing;
    let at = row.updated;
    window.push(row.clone()).expect("one row contradicts nothing");
    window.push(row).expect("one row contradicts nothing");
    window.resolved(at);
    match window.next_event().expect("one row contradicts nothing") {
        Some(Event::Commit(transaction)) => {
            assert!(comes_out && transaction.position.hlc() == Some(at));
            assert_eq!(transaction.changes.read().expect("it is in memory").count(), 1);
        }
        Some(Event::Watermark(_)) | None => assert!(!comes_out),
    }
}
