//! What would make a table of the target like the source's.

use tidegate_model::{Problem, Row, TableMap, Value};

use crate::compare::{End, Pair, Reading, batches, selection};
use crate::key::Key;
use crate::layout::Layout;
use crate::report::{DifferenceKind, KeyReport};
use crate::row::Fields;
use crate::value::Equality;

/// What to remove from a table of the target, and what to put into it afterwards.
#[derive(Clone, Debug)]
pub struct Repair {
    /// The table.
    pub table: TableMap,
    /// First. A row that is not there is no error: somebody may have removed it meanwhile.
    pub remove: Vec<Removal>,
    /// Then. The columns of the map, in its order.
    pub put: Vec<Row>,
}

/// A row to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The row of this key.
    Key(Key),
    /// One row that is like this one, of a table without a key.
    Row(Row),
}

impl Repair {
    /// Makes the repair of the rows that a report lists. `rows` are the rows of these keys at the source, as
    /// [`read_rows`] returns them; those of keys that are not there any more are only removed.
    pub fn new(table: &TableMap, differing: &[KeyReport], rows: Vec<Row>) -> Repair {
        let mut repair = Repair { table: table.clone(), remove: Vec::new(), put: Vec::new() };
        if table.key.is_empty() {
            for (kind, key) in named(differing) {
                match kind {
                    DifferenceKind::Extra => repair.remove.push(Removal::Row(row_of(key))),
                    DifferenceKind::Missing | DifferenceKind::Different => repair.put.push(row_of(key)),
                }
            }
        } else {
            // Also what was missing: the stream may have brought it since.
            repair.remove.extend(named(differing).map(|(_, key)| Removal::Key(key.clone())));
            repair.put = rows;
        }
        repair
    }
}

fn named(differing: &[KeyReport]) -> impl Iterator<Item = (DifferenceKind, &Key)> {
    differing.iter().filter_map(|report| Some((report.kind, report.row.as_ref()?)))
}

/// Reads the rows of keys at the source of a pair, whole. Of a table without a key it reads nothing: there the keys are
/// the rows.
pub async fn read_rows(pair: &Pair, table: &TableMap, keys: &[Key]) -> Result<Vec<Row>, Problem> {
    if table.key.is_empty() {
        return Ok(Vec::new());
    }
    let reading = Reading { side: pair.source.clone(), selection: selection(table, End::Source) };
    let layout = Layout::of(table, Equality::Meaning);
    let rows = read_side(&reading, &layout, keys).await?;
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Reads the rows of keys at a side, with the hashes of their keys.
pub(crate) async fn read_side(reading: &Reading, layout: &Layout, keys: &[Key]) -> Result<Vec<(u128, Row)>, Problem> {
    let mut scratch = Vec::new();
    let mut found = Vec::new();
    for batch in batches(keys) {
        let asked: std::collections::HashSet<u128> =
            batch.iter().map(|key| layout.hash_key(key, &mut scratch)).collect();
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

fn row_of(key: &Key) -> Row {
    key.values().map(value).collect::<Vec<_>>().into_iter().collect()
}

fn value(text: Option<&[u8]>) -> Value<'_> {
    text.map_or(Value::Null, Value::Text)
}
