//! A row that waits for its transaction.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Change, Hlc, NewRow, OldRow, RelationId, Row, SourceTable, Value};

use crate::message::RowChange;

/// A row that waits for its transaction. Ordered by time, table and key; rows that are equal in these are one row.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub at: Hlc,
    pub table: RelationId,
    pub key: Bytes,
    pub change: RowChange,
}

impl Entry {
    fn place(&self) -> (Hlc, RelationId, &[u8]) {
        (self.at, self.table, &self.key)
    }

    /// Returns roughly how much memory the entry holds.
    pub(super) fn memory_bytes(&self) -> u64 {
        let rows = match &self.change {
            RowChange::Insert(row) | RowChange::Update { old: None, new: row } => row.memory_bytes(),
            RowChange::Update { old: Some(old), new } => old.memory_bytes() + new.memory_bytes(),
            RowChange::Delete(old) => old.row().memory_bytes(),
            RowChange::Nothing => 0,
        };
        rows + (self.key.len() + size_of::<Entry>()) as u64
    }

    pub(super) fn is_same_row(&self, other: &Entry) -> bool {
        self.place() == other.place()
    }

    /// Takes in another telling of the same row; `false` if they contradict each other. What the row was before may be
    /// told once and not the other time: then once is enough, and where no old row is carried, it does not matter.
    pub(super) fn absorb(&mut self, other: Entry, carries_old_rows: bool) -> bool {
        match (&mut self.change, other.change) {
            (RowChange::Insert(a), RowChange::Insert(b)) => *a == b,
            (RowChange::Update { old: a_old, new: a }, RowChange::Update { old: b_old, new: b }) => {
                let same = agree(a, &b) && (!carries_old_rows || *a_old == b_old);
                if a_old.is_none() && b_old.is_some() {
                    // Told by a decoder that was asked for old rows in between.
                    (*a_old, *a) = (b_old, b);
                }
                same
            }
            (RowChange::Insert(a), update @ RowChange::Update { .. }) => {
                let same = matches!(&update, RowChange::Update { new, .. } if agree(new, a));
                self.change = update;
                same
            }
            (RowChange::Update { new: a, .. }, RowChange::Insert(b)) => agree(a, &b),
            (RowChange::Delete(a), RowChange::Delete(b)) => !carries_old_rows || *a == b,
            _ => false,
        }
    }

    /// Returns the change of the transaction.
    pub(super) fn change(self, table: &Arc<SourceTable>) -> Option<Change> {
        let table = Arc::clone(table);
        match self.change {
            RowChange::Insert(new) => Some(Change::Insert { table, new }),
            RowChange::Update { old, new } => {
                Some(Change::Update { table, old: old.map(OldRow::Full), new: NewRow::from(new) })
            }
            RowChange::Delete(old) => Some(Change::Delete { table, old }),
            RowChange::Nothing => None,
        }
    }
}

/// Whether two tellings of one row agree. What the one took for unchanged the other may tell.
fn agree(one: &Row, other: &Row) -> bool {
    let same = |(one, other)| one == other || [one, other].contains(&Value::Unchanged);
    one.len() == other.len() && one.values().zip(other.values()).all(same)
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_row(other)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
