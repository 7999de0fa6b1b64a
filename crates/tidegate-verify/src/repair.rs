//! What would make a table of the target like the source's.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use tidegate_model::{Change, OldRow, Problem, Row, SourceTable, TableMap, Value};

use crate::compare::{End, Pair, Reading, batches, selection};
use crate::key::Key;
use crate::layout::Layout;
use crate::report::{DifferenceKind, KeyReport};
use crate::row::Fields;
use crate::value::Equality;

/// Returns the changes that, written to the target of a pair, make the rows that a report of that very pair lists like
/// those of its source. Each of them says what it expects to find: a row that is missing is inserted, one that is extra
/// is deleted, another one is updated by its key. Rows without a key are removed and added one by one.
///
/// Rows are read until they have `bytes_max`; the differences behind are left for another time. Its problems are those
/// of [`compare_table`](crate::compare_table).
pub async fn repair(
    pair: &Pair,
    table: &TableMap,
    differing: &[KeyReport],
    bytes_max: u64,
) -> Result<Vec<Change>, Problem> {
    let source = Arc::new(table.source.clone());
    if table.key.is_empty() {
        return Ok(changes_of_whole_rows(&source, differing, bytes_max));
    }
    let named = |wanted: DifferenceKind| {
        differing.iter().filter(move |report| report.kind == wanted).filter_map(|report| report.row.as_ref())
    };
    let extra = named(DifferenceKind::Extra)
        .map(|key| Change::Delete { table: Arc::clone(&source), old: OldRow::Key(row_of_key(table, key)) });
    let mut changes: Vec<Change> = extra.collect();
    let layout = Layout::of(table, Equality::Meaning);
    let mut scratch = Vec::new();
    let keys: Vec<Key> = named(DifferenceKind::Missing).chain(named(DifferenceKind::Different)).cloned().collect();
    let missing: HashSet<u128> = named(DifferenceKind::Missing).map(|key| layout.hash_key(key, &mut scratch)).collect();
    let reading = Reading { side: pair.source.clone(), selection: selection(table, End::Source) };
    let mut bytes = 0;
    for some in batches(&keys) {
        for (key, new) in read_side(&reading, &layout, some).await? {
            bytes += new.memory_bytes();
            let table = Arc::clone(&source);
            changes.push(match missing.contains(&key) {
                true => Change::Insert { table, new },
                false => Change::Update { table, old: None, new: new.into() },
            });
        }
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(changes)
}

fn changes_of_whole_rows(source: &Arc<SourceTable>, differing: &[KeyReport], bytes_max: u64) -> Vec<Change> {
    let mut bytes = 0;
    let mut changes = Vec::new();
    for report in differing {
        let Some(key) = report.row.as_ref().filter(|_| bytes < bytes_max) else { continue };
        bytes += key.bytes() as u64;
        let (table, row) = (Arc::clone(source), key.values().map(value).collect::<Vec<_>>().into_iter().collect());
        changes.push(match report.kind {
            DifferenceKind::Extra => Change::Delete { table, old: OldRow::Full(row) },
            DifferenceKind::Missing | DifferenceKind::Different => Change::Insert { table, new: row },
        });
    }
    changes
}

/// Returns a row of which only the key is known.
fn row_of_key(table: &TableMap, key: &Key) -> Row {
    let values: HashMap<usize, Option<&[u8]>> = table.key.iter().copied().zip(key.values()).collect();
    (0..table.columns.len()).map(|column| value(values.get(&column).copied().flatten())).collect()
}

/// Reads the rows of keys at a side, with the hashes of their keys.
pub(crate) async fn read_side(reading: &Reading, layout: &Layout, keys: &[Key]) -> Result<Vec<(u128, Row)>, Problem> {
    let mut scratch = Vec::new();
    let mut found = Vec::new();
    for batch in batches(keys) {
        let asked: HashSet<u128> = batch.iter().map(|key| layout.hash_key(key, &mut scratch)).collect();
        let mut rows = reading.side.read_keys(&reading.selection, batch).await?;
        while let Some(row) = rows.next().await? {
            let key = layout.hash(row, &mut scratch).key;
            if asked.contains(&key) {
                found.push((key, whole(row)));
            }
        }
    }
    Ok(found)
}

fn whole(row: &Fields) -> Row {
    row.values().map(value).collect()
}

fn value(text: Option<&[u8]>) -> Value<'_> {
    text.map_or(Value::Null, Value::Text)
}
