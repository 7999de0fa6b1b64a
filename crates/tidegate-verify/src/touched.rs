//! Which keys a stream wrote since a table was last compared.

use std::collections::{HashMap, HashSet};
use std::mem;

use foldhash::fast::RandomState;
use tidegate_model::{Batch, Change, Changes, ColumnName, Problem, Row, SourceTable, TableMap, TableName, Value};

use crate::key::Key;

/// How many keys of one table are remembered. Past that, reading the whole table costs little more than reading so many
/// rows by key.
const TABLE_KEYS_MAX: usize = 500_000;

/// How many bytes of keys of all tables are remembered.
const BYTES_MAX: usize = 48 * 1024 * 1024;

/// What a key takes in memory besides its values: its place in the set, and the allocator's.
const KEY_OVERHEAD_BYTES: usize = 40;

/// A transaction on disk is read for its keys up to this size; a larger one touches every table.
const SPOOLED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What of a table was touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TouchedKeys {
    /// Nothing.
    Nothing,
    /// The rows of these keys.
    Keys(Vec<Key>),
    /// Anything: too much, or nobody knows.
    Whole,
}

/// The keys touched since each table was last taken. Bounded; a table that does not fit any more counts as touched as a
/// whole, and so does every table at first, because what happened before this process is not known.
#[derive(Debug)]
pub struct Touched {
    tables: HashMap<TableName, Table>,
    bytes: usize,
}

#[derive(Debug)]
struct Table {
    /// Place and name of each column of the key; empty without one.
    key: Vec<(usize, ColumnName)>,
    /// `None`: touched as a whole.
    keys: Option<HashSet<Key, RandomState>>,
    bytes: usize,
}

impl Touched {
    /// Starts with all tables touched.
    pub fn new<'a>(tables: impl IntoIterator<Item = &'a TableMap>) -> Touched {
        let mut touched = Touched { tables: HashMap::new(), bytes: 0 };
        tables.into_iter().for_each(|table| touched.add(table));
        touched
    }

    /// Adds a table, touched as a whole; replaces one of the same name.
    pub fn add(&mut self, table: &TableMap) {
        let column = |index: &usize| (*index, table.source.columns[*index].name.clone());
        let key = table.key.iter().map(column).collect();
        if let Some(mut before) = self.tables.insert(table.source.name.clone(), Table { key, keys: None, bytes: 0 }) {
            self.bytes -= before.forget();
        }
    }

    /// Forgets a table.
    pub fn remove(&mut self, table: &TableName) {
        if let Some(mut before) = self.tables.remove(table) {
            self.bytes -= before.forget();
        }
    }

    /// Notes what a batch writes. To be called before any of it can be seen at the target. Reads transactions that
    /// are on disk: blocks for a moment where there are any.
    pub fn note(&mut self, batch: &Batch) {
        for transaction in &batch.transactions {
            match &transaction.changes {
                Changes::Memory(changes) => changes.iter().for_each(|change| self.note_change(change)),
                Changes::Spooled(spooled) if spooled.bytes() > SPOOLED_BYTES_MAX => self.note_everything(),
                Changes::Spooled(_) => {
                    if let Err(problem) = self.note_spooled(&transaction.changes) {
                        tracing::debug!(error = %problem, "a transaction on disk counts as touching every table");
                        self.note_everything();
                    }
                }
            }
        }
    }

    fn note_spooled(&mut self, changes: &Changes) -> Result<(), Problem> {
        for change in changes.read()? {
            self.note_change(&change?);
        }
        Ok(())
    }

    fn note_everything(&mut self) {
        self.tables.values_mut().for_each(|table| {
            table.forget();
        });
        self.bytes = 0;
    }

    fn note_change(&mut self, change: &Change) {
        match change {
            Change::Insert { table, new } => self.note_row(table, new, None),
            Change::Update { table, old, new } => {
                let old = old.as_ref().map(|old| old.row());
                if let Some(old) = old {
                    self.note_row(table, old, None);
                }
                self.note_row(table, new.row(), old);
            }
            Change::Delete { table, old } => self.note_row(table, old.row(), None),
            Change::Truncate { tables } => tables.iter().for_each(|table| self.note_whole(&table.name)),
            Change::Message { .. } => {}
        }
    }

    fn note_whole(&mut self, name: &TableName) {
        if let Some(table) = self.tables.get_mut(name) {
            self.bytes -= table.forget();
        }
    }

    /// Notes the key of a row. A value that was not sent is that of the row before.
    fn note_row(&mut self, source: &SourceTable, row: &Row, before: Option<&Row>) {
        let Some(table) = self.tables.get_mut(&source.name) else { return };
        let Some(keys) = &mut table.keys else { return };
        let key = key_of(&table.key, source, row, before);
        let Some(key) = key.filter(|_| keys.len() < TABLE_KEYS_MAX && self.bytes < BYTES_MAX) else {
            self.bytes -= table.forget();
            return;
        };
        let bytes = key.bytes() + KEY_OVERHEAD_BYTES;
        if keys.insert(key) {
            table.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// Returns what of a table was touched, and begins anew. To be called while the applier is held at the position of
    /// the fence: what is noted then is exactly what the fence sees.
    pub fn take(&mut self, name: &TableName) -> TouchedKeys {
        let Some(table) = self.tables.get_mut(name) else { return TouchedKeys::Whole };
        // A table without a key can only be touched as a whole; an empty set says that it was not.
        let keys = table.keys.replace(HashSet::default());
        self.bytes -= mem::take(&mut table.bytes);
        match keys {
            None => TouchedKeys::Whole,
            Some(keys) if keys.is_empty() => TouchedKeys::Nothing,
            Some(keys) => TouchedKeys::Keys(keys.into_iter().collect()),
        }
    }

    /// Puts back what was taken for a comparison that failed or found differences.
    pub fn merge_back(&mut self, name: &TableName, taken: TouchedKeys) {
        let Some(table) = self.tables.get_mut(name) else { return };
        match (taken, &mut table.keys) {
            (TouchedKeys::Nothing, _) | (_, None) => {}
            (TouchedKeys::Whole, Some(_)) => self.bytes -= table.forget(),
            (TouchedKeys::Keys(taken), Some(keys)) => {
                for key in taken {
                    let bytes = key.bytes() + KEY_OVERHEAD_BYTES;
                    if keys.insert(key) {
                        table.bytes += bytes;
                        self.bytes += bytes;
                    }
                }
                if keys.len() > TABLE_KEYS_MAX || self.bytes > BYTES_MAX {
                    self.bytes -= table.forget();
                }
            }
        }
    }

    /// Returns how many keys are remembered of a table; `None` for one that is touched as a whole.
    pub fn count(&self, name: &TableName) -> Option<usize> {
        self.tables.get(name)?.keys.as_ref().map(HashSet::len)
    }
}

impl Table {
    /// Counts as touched as a whole from now on; returns how many bytes that frees.
    fn forget(&mut self) -> usize {
        self.keys = None;
        mem::take(&mut self.bytes)
    }
}

/// Returns the key of a row; `None` where it does not tell one.
fn key_of(columns: &[(usize, ColumnName)], source: &SourceTable, row: &Row, before: Option<&Row>) -> Option<Key> {
    if columns.is_empty() {
        return None;
    }
    let value = |(index, name): &(usize, ColumnName)| {
        // The table may have changed since the key was looked up.
        source.columns.get(*index).filter(|column| column.name == *name)?;
        let value = match row.value(*index) {
            Value::Unchanged => before?.value(*index),
            sent => sent,
        };
        match value {
            Value::Text(text) => Some(Some(text)),
            Value::Null | Value::Unchanged | Value::Binary(_) => None,
        }
    };
    let values: Option<Vec<Option<&[u8]>>> = columns.iter().map(value).collect();
    Some(values?.into_iter().collect())
}

#[cfg(test)]
mod tests;
