//! From what is left after folding to statements.

use std::sync::Arc;

use tidegate_model::Value;

use super::fold::{Entity, Fold, NONE, Step, Values};
use super::order::{self, Moves};
use super::param::{Param, Rows, TextArray};
use super::shape::{ColumnSet, Shape};
use super::size::{Room, StatementLimit};
use super::stretch::Updates;
use super::table::Table;
use super::{Operation, Statement};

/// What a stretch of changes left to do in one table.
pub(crate) struct Outcome<'a> {
    pub(super) table: &'a mut Table,
    pub(super) rows: Rows,
    entities: Vec<Entity>,
    pub(super) steps: Vec<Step>,
    inserts: Vec<u32>,
    deletes: Vec<u32>,
    updates: Vec<u32>,
    moved: Vec<u32>,
    moves: Moves,
}

impl<'a> Outcome<'a> {
    /// Ends a stretch; `fold` is empty afterwards.
    pub fn of(fold: &mut Fold, table: &'a mut Table) -> Self {
        let (mut inserts, mut deletes, mut updates, mut moved) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, entity) in fold.entities.iter().enumerate() {
            let row = |key: u32| &fold.rows[key as usize];
            let kind = match (entity.origin, entity.current) {
                (NONE, NONE) => continue,
                (NONE, _) => &mut inserts,
                (_, NONE) => &mut deletes,
                (origin, current) if origin == current || table.same_key(row(origin), row(current)) => &mut updates,
                _ => &mut moved,
            };
            kind.push(index as u32);
        }
        let moves = if moved.is_empty() { Moves::default() } else { order::moves(fold, table, &moved) };
        let Fold { rows, entities, steps, .. } = fold.restart();
        Outcome { table, rows: Arc::new(rows), entities, steps, inserts, deletes, updates, moved, moves }
    }

    pub fn deletes_last(&self) -> bool {
        self.table.deletes_last
    }

    /// Whether the tables of both must be written together.
    pub fn same_circle(&self, other: &Outcome<'_>) -> bool {
        self.table.deletes_last && other.table.deletes_last && self.table.circle == other.table.circle
    }

    pub fn write_deletes(&mut self, out: &mut Vec<Statement>) {
        self.write_removals_or_arrivals(&Shape::Delete, out);
    }

    /// Writes the rows that go, or those that are new.
    fn write_removals_or_arrivals(&mut self, shape: &Shape, out: &mut Vec<Statement>) {
        let members = self.take(shape);
        for some in self.split(&members) {
            let (operation, params) = self.removals_or_arrivals(shape, some);
            self.write(shape.clone(), operation, params, some.len(), out);
        }
    }

    fn take(&mut self, shape: &Shape) -> Vec<u32> {
        std::mem::take(if *shape == Shape::Insert { &mut self.inserts } else { &mut self.deletes })
    }

    fn removals_or_arrivals(&self, shape: &Shape, members: &[u32]) -> (Operation, Vec<Param>) {
        if *shape == Shape::Insert {
            return (Operation::Insert, self.value_params(members, |_| true));
        }
        let picks: Arc<[u32]> = members.iter().map(|&entity| self.entities[entity as usize].origin).collect();
        (Operation::Delete, self.key_params(&picks))
    }

    /// Updates in the order in which keys become free.
    pub fn write_updates(&mut self, how: Updates, out: &mut Vec<Statement>) {
        let Moves { rotated, levels } = std::mem::take(&mut self.moves);
        let updates = std::mem::take(&mut self.updates);
        let moved = std::mem::take(&mut self.moved);
        if how == Updates::OutAndBack {
            self.write_replacements(&updates, false, out);
            self.write_replacements(&moved, true, out);
            self.write_update_groups(&moved, Find::Moved, out);
            self.write_update_groups(&updates, Find::InPlace, out);
            return;
        }
        if !rotated.is_empty() {
            let nothing = ColumnSet::of(self.table.route.map.columns.len(), []);
            self.write_replacement(nothing, true, &rotated, out);
        }
        for level in levels {
            self.write_update_groups(&level, Find::Moving, out);
        }
        self.write_update_groups(&rotated, Find::Moved, out);
        self.write_update_groups(&updates, Find::InPlace, out);
    }

    /// Takes rows out and back with all of their values that a constraint may be about; an ordinary update sets the
    /// values exactly afterwards, because inside JSON those of JSON types lose their text.
    fn write_replacements(&mut self, entities: &[u32], rekey: bool, out: &mut Vec<Statement>) {
        for (set, members) in self.by_columns(entities) {
            let columns = self.table.route.map.columns.len();
            let is_json = |column: &usize| self.table.route.map.columns[*column].target_type.starts_with("json");
            let set = ColumnSet::of(columns, (0..columns).filter(|column| set.contains(*column) && !is_json(column)));
            if rekey || !set.is_empty() {
                self.write_replacement(set, rekey, &members, out);
            }
        }
    }

    fn write_replacement(&mut self, set: ColumnSet, rekey: bool, members: &[u32], out: &mut Vec<Statement>) {
        let picks: Arc<[u32]> = members.iter().map(|&entity| self.entities[entity as usize].origin).collect();
        let mut params = self.key_params(&picks);
        params.extend(self.set_params(&set, rekey, members));
        self.write(Shape::Replace { set, rekey }, Operation::Update, params, members.len(), out);
    }

    fn write_update_groups(&mut self, entities: &[u32], find: Find, out: &mut Vec<Statement>) {
        for (set, members) in self.by_columns(entities) {
            let rekey = find == Find::Moving;
            if find == Find::Moved && set.is_empty() {
                continue;
            }
            for some in self.split(&members) {
                let key = |&entity: &u32| {
                    let entity = &self.entities[entity as usize];
                    if find == Find::Moved { entity.current } else { entity.origin }
                };
                let keys: Arc<[u32]> = some.iter().map(key).collect();
                let mut params = self.key_params(&keys);
                params.extend(self.set_params(&set, rekey, some));
                let shape = Shape::Update { set: set.clone(), rekey };
                self.write(shape, Operation::Update, params, some.len(), out);
            }
        }
    }

    /// The values of the columns of `set`, and with `rekey` of the new key, in the order of the columns.
    fn set_params(&self, set: &ColumnSet, rekey: bool, members: &[u32]) -> Vec<Param> {
        let is_key = |column| self.table.route.map.key.contains(&column);
        self.value_params(members, |column| set.contains(column) || (rekey && is_key(column)))
    }

    /// Groups entities by the set of columns outside the key whose values are known.
    fn by_columns(&self, entities: &[u32]) -> Vec<(ColumnSet, Vec<u32>)> {
        let columns = self.table.route.map.columns.len();
        let others = &self.table.others;
        let (full, partial): (Vec<u32>, Vec<u32>) =
            entities.iter().partition(|&&entity| self.entities[entity as usize].full);
        let mut groups = Vec::new();
        if !full.is_empty() {
            groups.push((ColumnSet::of(columns, others.iter().copied()), full));
        }
        for entity in partial {
            let values = &self.entities[entity as usize].values;
            let known = |column: &usize| self.rows[values.pick(*column) as usize].value(*column) != Value::Unchanged;
            let set = ColumnSet::of(columns, others.iter().copied().filter(known));
            match groups.iter_mut().find(|(other, _)| *other == set) {
                Some((_, members)) => members.push(entity),
                None => groups.push((set, vec![entity])),
            }
        }
        groups
    }

    /// Cuts rows into those of one statement.
    fn split<'b>(&self, members: &'b [u32]) -> Vec<&'b [u32]> {
        self.limit().split(members, |entity| self.bytes_of(*entity))
    }

    pub(super) fn limit(&self) -> StatementLimit {
        StatementLimit::of(self.table)
    }

    /// Returns about how many bytes a row takes in a statement, at most.
    fn bytes_of(&self, entity: u32) -> u64 {
        let Entity { origin, values, .. } = &self.entities[entity as usize];
        let size = |row: u32| if row == NONE { 0 } else { self.rows[row as usize].memory_bytes() };
        let values = match values {
            Values::Absent => 0,
            Values::Row(row) => size(*row),
            Values::Merged(picks) => picks.iter().enumerate().map(|(column, &row)| self.cell_bytes(row, column)).sum(),
        };
        let key = self.table.route.map.key.iter().map(|&column| self.cell_bytes(*origin, column)).sum::<u64>();
        values + key
    }

    fn cell_bytes(&self, row: u32, column: usize) -> u64 {
        match self.rows.get(row as usize).map(|row| row.value(column)) {
            Some(Value::Text(text)) => text.len() as u64 + 4,
            _ => 4,
        }
    }

    fn key_params(&self, picks: &Arc<[u32]>) -> Vec<Param> {
        let array = |&column| Param::TextArray(TextArray::new(&self.rows, picks, column));
        self.table.route.map.key.iter().map(array).collect()
    }

    fn value_params(&self, entities: &[u32], wanted: impl Fn(usize) -> bool) -> Vec<Param> {
        let picks = |column: usize| -> Arc<[u32]> {
            entities.iter().map(|&entity| self.entities[entity as usize].values.pick(column)).collect()
        };
        let whole = |&entity: &u32| matches!(self.entities[entity as usize].values, Values::Row(_));
        let shared = entities.iter().all(whole).then(|| picks(0));
        (0..self.table.route.map.columns.len())
            .filter(|&column| wanted(column))
            .map(|column| {
                let picks = shared.clone().unwrap_or_else(|| picks(column));
                Param::TextArray(TextArray::new(&self.rows, &picks, column))
            })
            .collect()
    }

    pub(super) fn write(
        &mut self,
        shape: Shape,
        operation: Operation,
        mut params: Vec<Param>,
        rows: usize,
        out: &mut Vec<Statement>,
    ) {
        params.push(Param::Rows(rows as i64));
        self.push(shape, operation, params, rows as u64, out);
    }

    pub(super) fn push(
        &mut self,
        shape: Shape,
        operation: Operation,
        params: Vec<Param>,
        rows: u64,
        out: &mut Vec<Statement>,
    ) {
        let sql = self.table.text_of(&shape);
        out.push(Statement { sql, params, table: self.table.route.map.target.clone(), operation, rows });
    }
}

/// Writes the new rows, or those that go, of tables that reference each other in a circle: by one statement, at whose
/// end the foreign keys hold. If that would be too large, one after another; the server judges it.
pub(crate) fn write_together(circle: &mut [Outcome<'_>], shape: &Shape, out: &mut Vec<Statement>) {
    let pending = |outcome: &Outcome<'_>| {
        if *shape == Shape::Insert { !outcome.inserts.is_empty() } else { !outcome.deletes.is_empty() }
    };
    let mut room = Room::of_circle();
    for outcome in circle.iter() {
        let members = if *shape == Shape::Insert { &outcome.inserts } else { &outcome.deletes };
        members.iter().for_each(|entity| room.take(outcome.bytes_of(*entity)));
    }
    if circle.iter().filter(|outcome| pending(outcome)).count() < 2 || room.is_over() {
        let each = |outcome: &mut Outcome<'_>| outcome.write_removals_or_arrivals(shape, out);
        if *shape == Shape::Insert {
            circle.iter_mut().for_each(each);
        } else {
            circle.iter_mut().rev().for_each(each);
        }
        return;
    }
    let (mut params, mut rows, mut kind) = (Vec::new(), 0, Operation::Insert);
    let mut written: Vec<&Outcome<'_>> = Vec::new();
    for outcome in circle.iter_mut().filter(|outcome| pending(outcome)) {
        let members = outcome.take(shape);
        let (operation, more) = outcome.removals_or_arrivals(shape, &members);
        params.extend(more);
        params.push(Param::Rows(members.len() as i64));
        rows += members.len() as u64;
        kind = operation;
        written.push(outcome);
    }
    let tables: Vec<&Table> = written.iter().map(|outcome| &*outcome.table).collect();
    let sql = shape.together(&tables).into();
    out.push(Statement { sql, params, table: tables[0].route.map.target.clone(), operation: kind, rows });
}

/// Under which key an update finds its rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Find {
    /// The key does not change.
    InPlace,
    /// The old key; this update moves it.
    Moving,
    /// The new key; it has been moved.
    Moved,
}
