//! A table as the planner sees it: where its columns go, and what its key is.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use tidegate_model::{
    Change, ColumnMap, NewRow, OldRow, Position, Problem, ReplicaIdentity, Row, SourceTable, TableRoute, Value,
};

use super::problem;
use super::shape::Shape;
use crate::dialect::Dialect;

/// A route with what is derived from it once.
pub(crate) struct Table {
    pub route: TableRoute,
    /// What its server speaks.
    pub dialect: Dialect,
    /// Whether its rows must not go before those that reference them are changed: foreign keys are enforced, and one
    /// references it.
    pub deletes_last: bool,
    /// The circle of references that it is part of: tables with one number reference each other.
    pub circle: usize,
    /// Indices of the columns outside the key.
    pub others: Vec<usize>,
    /// SQL texts made so far. Bounded by the sets of columns that updates really leave out.
    texts: HashMap<Shape, Arc<str>>,
    /// The description last found equal to the map's, so that the usual change costs one comparison of pointers.
    seen: Option<Arc<SourceTable>>,
    hashes: RandomState,
}

/// A change of one row, taken apart and checked against the table.
#[derive(Debug)]
pub(crate) enum RowChange {
    Insert(Row),
    Update {
        old: Option<Row>,
        new: Row,
        /// Whether `new` has every column.
        full: bool,
    },
    Delete(Row),
}

impl Table {
    pub fn new(route: TableRoute, dialect: Dialect, deletes_last: bool, circle: usize) -> Self {
        let others = (0..route.map.columns.len()).filter(|index| !route.map.key.contains(index)).collect();
        let (texts, hashes) = (HashMap::new(), RandomState::default());
        Table { route, dialect, deletes_last, circle, others, texts, seen: None, hashes }
    }

    /// Returns whether a change at `position` is to be applied; changes that the copy has seen are not.
    /// An error where the table is no longer the one that was mapped.
    pub fn applies(&mut self, now: &Arc<SourceTable>, position: &Position) -> Result<bool, Problem> {
        if *position <= self.route.from {
            return Ok(false);
        }
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, now)) {
            return Ok(true);
        }
        match self.route.map.source.difference(now) {
            Some(difference) => Err(problem::table_changed(&self.route.map.source, &difference, position)),
            None => {
                self.seen = Some(Arc::clone(now));
                Ok(true)
            }
        }
    }

    pub fn has_key(&self) -> bool {
        !self.route.map.key.is_empty()
    }

    /// Whether two rows may hold one key for a while inside a transaction: the key is then deferrable at the source,
    /// and PostgreSQL takes no deferrable index as a replica identity, which leaves FULL.
    pub fn keys_may_meet(&self) -> bool {
        self.route.map.source.replica_identity == ReplicaIdentity::Full
    }

    /// Whether a key that the target had must not be taken by another row in the same stretch: rows go last, or rows
    /// that change places cannot be written at once.
    pub fn keys_stay_taken(&self) -> bool {
        self.deletes_last || self.dialect.is_cockroach()
    }

    /// Whether a single change finds its row by the whole old row. CockroachDB never holds two rows with one key.
    pub fn goes_by_whole_rows(&self) -> bool {
        self.keys_may_meet() && !self.dialect.is_cockroach()
    }

    pub fn key_columns(&self) -> impl Iterator<Item = &ColumnMap> {
        self.route.map.key.iter().map(|&index| &self.route.map.columns[index])
    }

    pub fn key_hash(&self, row: &Row) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        for &index in &self.route.map.key {
            let bytes = text(row, index);
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
        hasher.finish()
    }

    /// Compares keys by their bytes. Equal values with different texts (1.0 and 1.00) count as different: the server
    /// then sees two rows take one key and refuses, and source order decides.
    pub fn same_key(&self, a: &Row, b: &Row) -> bool {
        self.route.map.key.iter().all(|&index| text(a, index) == text(b, index))
    }

    pub fn text_of(&mut self, shape: &Shape) -> Arc<str> {
        if let Some(text) = self.texts.get(shape) {
            return Arc::clone(text);
        }
        let text: Arc<str> = shape.sql(self).into();
        self.texts.insert(shape.clone(), Arc::clone(&text));
        text
    }

    #[cfg(test)]
    pub fn shape_of(&self, sql: &str) -> Option<Shape> {
        self.texts.iter().find(|(_, text)| &***text == sql).map(|(shape, _)| shape.clone())
    }

    /// Takes a change of one of the table's rows apart and checks what folding relies on.
    pub fn row_change(&self, change: Change, position: &Position) -> Result<RowChange, Problem> {
        match change {
            Change::Insert { new, .. } => {
                self.check(&new, position, Whole::Yes)?;
                Ok(RowChange::Insert(new))
            }
            Change::Delete { old, .. } => Ok(RowChange::Delete(self.old_row(old, position)?)),
            Change::Update { old, new, .. } => self.update(old, new_row(new), position),
            Change::Truncate { .. } | Change::Message { .. } => unreachable!("only changes of one row come here"),
        }
    }

    fn update(&self, old: Option<OldRow>, new: Row, position: &Position) -> Result<RowChange, Problem> {
        let old = old.map(|old| self.old_row(old, position)).transpose()?;
        if old.is_none() && !self.has_key() {
            return Err(problem::malformed_row(&self.route.map, position, "an update says nothing of the old row"));
        }
        let new = self.completed(old.as_ref(), new);
        let full = self.check(&new, position, Whole::No)?;
        Ok(RowChange::Update { old, new, full })
    }

    /// Fills in what was not sent because it did not change, where folding must know it: long key columns, and the
    /// whole row where its key moves to one that another row may have at the same time.
    fn completed(&self, old: Option<&Row>, new: Row) -> Row {
        let Some(old) = old.filter(|old| old.len() == new.len()) else { return new };
        let key = &self.route.map.key;
        let missing = |index: usize| new.value(index) == Value::Unchanged;
        let moves = key.iter().any(|&index| !missing(index) && text(old, index) != text(&new, index));
        let whole = moves && self.keys_may_meet();
        let filled = |index: usize| missing(index) && (whole || key.contains(&index));
        if !(0..new.len()).any(filled) {
            return new;
        }
        (0..new.len()).map(|index| if filled(index) { old.value(index) } else { new.value(index) }).collect()
    }

    fn old_row(&self, old: OldRow, position: &Position) -> Result<Row, Problem> {
        let (row, whole) = match old {
            OldRow::Full(row) => (row, Whole::Yes),
            OldRow::Key(row) => (row, Whole::No),
        };
        if whole == Whole::No && !self.has_key() {
            return Err(problem::malformed_row(
                &self.route.map,
                position,
                "the old row of a table without key is not full",
            ));
        }
        self.check(&row, position, whole)?;
        Ok(row)
    }

    /// Returns whether every column is there.
    fn check(&self, row: &Row, position: &Position, whole: Whole) -> Result<bool, Problem> {
        let malformed = |what: &str| Err(problem::malformed_row(&self.route.map, position, what));
        if row.len() != self.route.map.columns.len() {
            return malformed("a row has another number of columns than its table");
        }
        let mut full = true;
        for value in row.values() {
            match value {
                Value::Null | Value::Text(_) => {}
                Value::Unchanged => full = false,
                Value::Binary(_) => return Err(problem::binary_cell(&self.route.map, position)),
            }
        }
        if !full && whole == Whole::Yes {
            return malformed("a row that must be full lacks a column");
        }
        if self.route.map.key.iter().any(|&index| !matches!(row.value(index), Value::Text(_))) {
            return malformed("a key column has no value");
        }
        Ok(full)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

fn new_row(new: NewRow) -> Row {
    match new {
        NewRow::Full(row) | NewRow::Partial(row) => row,
    }
}

/// Returns the text of a key column; rows were checked to have one.
pub(crate) fn text(row: &Row, index: usize) -> &[u8] {
    match row.value(index) {
        Value::Text(text) => text,
        Value::Null | Value::Unchanged | Value::Binary(_) => &[],
    }
}
