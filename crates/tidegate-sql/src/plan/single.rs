//! One change, by itself: what is tried in source order after a fast plan was refused.

use tidegate_model::{Change, OldRow, Row, TableName};

use super::table::{RowChange, Table, text};
use super::{Operation, Statement};

/// The longest key text in an error, in characters.
const KEY_CHARS_MAX: usize = 200;

/// The statements of one change.
#[derive(Clone, Debug)]
pub struct Single {
    /// Written one after another; as self-checking as those of a plan.
    pub statements: Vec<Statement>,
    /// The target table; of a TRUNCATE of several the first.
    pub table: TableName,
    /// The source table.
    pub source: TableName,
    /// What the change does.
    pub operation: Operation,
    /// The key of the row as the target must have it before the change (an insert: as it will be), for people:
    /// `(id)=(17)`.
    pub key: String,
}

/// Whether a change tells the whole row that it is about, as it was before.
pub(crate) fn tells_whole_row(change: &Change) -> bool {
    matches!(change, Change::Update { old: Some(OldRow::Full(_)), .. } | Change::Delete { old: OldRow::Full(_), .. })
}

/// Returns what a change does, and the row that has the key it is about.
pub(crate) fn subject(change: &RowChange) -> (Operation, &Row) {
    match change {
        RowChange::Insert(new) => (Operation::Insert, new),
        RowChange::Delete(old) => (Operation::Delete, old),
        RowChange::Update { old, new, .. } => (Operation::Update, old.as_ref().unwrap_or(new)),
    }
}

/// Returns the key of a row for people, shortened.
pub(crate) fn readable_key(table: &Table, row: &Row) -> String {
    let map = &table.route.map;
    if !table.has_key() {
        return "a row of a table without key".to_owned();
    }
    let names: Vec<&str> = map.key.iter().map(|&index| &*map.columns[index].source).collect();
    let values: Vec<_> = map.key.iter().map(|&index| String::from_utf8_lossy(text(row, index))).collect();
    let key = format!("({})=({})", names.join(", "), values.join(", "));
    match key.char_indices().nth(KEY_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &key[..end]),
        None => key,
    }
}
