use std::sync::Arc;

use tidegate_model::{
    ChangeReader, ColumnMap, Lsn, NewRow, OldRow, Position, RelationId, ReplicaIdentity, SourceColumn, Span,
    SpooledChanges, Timestamp, Transaction,
};

use super::*;

fn map(name: &str, key: &[usize]) -> TableMap {
    let column = |name: &str| SourceColumn { name: name.into(), type_oid: 25, type_modifier: -1, identity: true };
    let carried = |name: &str| ColumnMap {
        source: name.into(),
        target: name.into(),
        target_type: "text".into(),
        comparable: true,
    };
    TableMap {
        source: SourceTable {
            id: RelationId(1),
            name: TableName::new("public", name),
            replica_identity: ReplicaIdentity::Default,
            columns: vec![column("a"), column("b"), column("v")],
        },
        target: TableName::new("public", name),
        columns: vec![carried("a"), carried("b"), carried("v")],
        key: key.to_vec(),
        references: vec![],
    }
}

fn row(values: [&str; 3]) -> Row {
    let value = |text: &'static str| if text == "~" { Value::Unchanged } else { Value::Text(text.as_bytes()) };
    values.map(|text| value(Box::leak(text.to_owned().into_boxed_str()))).into_iter().collect()
}

fn key(values: &[&str]) -> Key {
    values.iter().map(|text| Some(text.as_bytes())).collect()
}

fn batch(changes: Changes) -> Batch {
    let at = Position::postgres(Lsn(10));
    let transaction = Transaction { position: at.clone(), committed_at: Timestamp(0), xid: None, changes };
    Batch { span: Span { after: Position::postgres(Lsn(1)), until: at }, transactions: vec![transaction] }
}

fn in_memory(changes: Vec<Change>) -> Batch {
    batch(Changes::Memory(changes.into()))
}

fn insert(map: &TableMap, values: [&str; 3]) -> Change {
    Change::Insert { table: Arc::new(map.source.clone()), new: row(values) }
}

fn update(map: &TableMap, old: Option<[&str; 3]>, new: [&str; 3]) -> Change {
    let table = Arc::new(map.source.clone());
    Change::Update { table, old: old.map(|old| OldRow::Key(row(old))), new: NewRow::from(row(new)) }
}

fn untouched(tables: &[&TableMap]) -> Touched {
    let mut touched = Touched::new(tables.iter().copied());
    for table in tables {
        assert_eq!(touched.take(&table.source.name), TouchedKeys::Whole, "nobody knows what happened before");
        assert_eq!(touched.take(&table.source.name), TouchedKeys::Nothing);
    }
    touched
}

fn sorted(keys: TouchedKeys) -> Vec<Key> {
    let TouchedKeys::Keys(mut keys) = keys else { panic!("keys are expected, got {keys:?}") };
    keys.sort();
    keys
}

#[test]
fn old_and_new_keys_are_touched_once() {
    let map = map("t", &[1, 0]);
    let mut touched = untouched(&[&map]);
    touched.note(&in_memory(vec![
        insert(&map, ["1", "x", "v"]),
        update(&map, None, ["1", "x", "w"]),
        update(&map, Some(["2", "y", "v"]), ["3", "~", "w"]),
        Change::Delete { table: Arc::new(map.source.clone()), old: OldRow::Key(row(["4", "z", "v"])) },
    ]));
    let keys = [key(&["x", "1"]), key(&["y", "2"]), key(&["y", "3"]), key(&["z", "4"])];
    assert_eq!(sorted(touched.take(&map.source.name)), keys);
    assert_eq!(touched.take(&map.source.name), TouchedKeys::Nothing);
    assert_eq!(touched.bytes, 0);
}

#[test]
fn what_tells_no_key_touches_the_whole_table_and_no_other() {
    let (keyed, keyless, other) = (map("t", &[0]), map("l", &[]), map("o", &[0]));
    let mut touched = untouched(&[&keyed, &keyless, &other]);
    let truncate = Change::Truncate { tables: vec![Arc::new(keyed.source.clone())] };
    touched.note(&in_memory(vec![insert(&keyed, ["1", "", ""]), truncate, insert(&keyless, ["1", "", ""])]));
    assert_eq!(touched.take(&keyed.source.name), TouchedKeys::Whole);
    assert_eq!(touched.take(&keyless.source.name), TouchedKeys::Whole);
    assert_eq!(touched.take(&other.source.name), TouchedKeys::Nothing);
    touched.note(&in_memory(vec![update(&keyed, None, ["~", "", ""])]));
    assert_eq!(touched.take(&keyed.source.name), TouchedKeys::Whole);
    let mut renamed = keyed.clone();
    renamed.source.columns[0].name = "other".into();
    touched.note(&in_memory(vec![insert(&renamed, ["1", "", ""])]));
    assert_eq!(touched.take(&keyed.source.name), TouchedKeys::Whole);
}

#[test]
fn what_was_taken_in_vain_is_there_again() {
    let map = map("t", &[0]);
    let mut touched = untouched(&[&map]);
    touched.note(&in_memory(vec![insert(&map, ["1", "", ""])]));
    let taken = touched.take(&map.source.name);
    touched.note(&in_memory(vec![insert(&map, ["2", "", ""])]));
    touched.merge_back(&map.source.name, taken);
    assert_eq!(touched.count(&map.source.name), Some(2));
    assert_eq!(sorted(touched.take(&map.source.name)), [key(&["1"]), key(&["2"])]);
    touched.merge_back(&map.source.name, TouchedKeys::Whole);
    assert_eq!(touched.take(&map.source.name), TouchedKeys::Whole);
}

#[test]
fn more_than_there_is_room_for_is_the_whole_table() {
    let map = map("t", &[0]);
    let mut touched = untouched(&[&map]);
    let wide = "x".repeat(1024 * 1024);
    for index in 0..60 {
        touched.note(&in_memory(vec![insert(&map, [&format!("{index}{wide}"), "", ""])]));
        assert!(touched.bytes < BYTES_MAX + 2 * wide.len());
    }
    assert_eq!(touched.bytes, 0);
    assert_eq!(touched.take(&map.source.name), TouchedKeys::Whole);
}

struct Spooled {
    changes: Vec<Change>,
    bytes: u64,
}

impl SpooledChanges for Spooled {
    fn read(&self) -> Result<ChangeReader, Problem> {
        Ok(Box::new(self.changes.clone().into_iter().map(Ok)))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[test]
fn transactions_on_disk_are_read_unless_they_are_giants() {
    let (map, other) = (map("t", &[0]), map("o", &[0]));
    let mut touched = untouched(&[&map, &other]);
    let spooled =
        |bytes| batch(Changes::Spooled(Arc::new(Spooled { changes: vec![insert(&map, ["1", "", ""])], bytes })));
    touched.note(&spooled(1000));
    assert_eq!(sorted(touched.take(&map.source.name)), [key(&["1"])]);
    assert_eq!(touched.take(&other.source.name), TouchedKeys::Nothing);
    touched.note(&spooled(SPOOLED_BYTES_MAX + 1));
    assert_eq!(touched.take(&map.source.name), TouchedKeys::Whole);
    assert_eq!(touched.take(&other.source.name), TouchedKeys::Whole);
}
