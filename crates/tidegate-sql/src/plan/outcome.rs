//! From what is left after folding to statements.

use std::sync::Arc;

use tidegate_model::Value;

use super::fold::{Entity, Fold, NONE, Step, Values};
use super::order::{self, Moves};
use super::param::{Param, Rows, TextArray, TextCell};
use super::shape::{ColumnSet, Shape};
use super::table::Table;
use super::{Operation, Statement};

/// What a stretch of changes left to do in one table.
pub(crate) struct Outcome<'a> {
    table: &'a mut Table,
    rows: Rows,
    entities: Vec<Entity>,
    steps: Vec<Step>,
    inserts: Vec<u32>,
    deletes: Vec<u32>,
    updates: Vec<u32>,
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
        Outcome { table, rows: Arc::new(rows), entities, steps, inserts, deletes, updates, moves }
    }

    pub fn write_deletes(&mut self, out: &mut Vec<Statement>) {
        if !self.deletes.is_empty() {
            let picks: Arc<[u32]> = self.deletes.iter().map(|&entity| self.entities[entity as usize].origin).collect();
            let params = self.key_params(&picks);
            self.write(Shape::Delete, Operation::Delete, params, picks.len(), out);
        }
    }

    pub fn write_inserts(&mut self, out: &mut Vec<Statement>) {
        if !self.inserts.is_empty() {
            let inserts = std::mem::take(&mut self.inserts);
            let params = self.value_params(&inserts, |_| true);
            self.write(Shape::Insert, Operation::Insert, params, inserts.len(), out);
        }
    }

    /// Updates in the order in which keys become free.
    pub fn write_updates(&mut self, out: &mut Vec<Statement>) {
        let Moves { rotated, levels } = std::mem::take(&mut self.moves);
        if !rotated.is_empty() {
            self.write_rotation(&rotated, out);
        }
        for level in levels {
            self.write_update_groups(&level, Find::Moving, out);
        }
        self.write_update_groups(&rotated, Find::Moved, out);
        let updates = std::mem::take(&mut self.updates);
        self.write_update_groups(&updates, Find::InPlace, out);
    }

    /// Moves the keys only; the other columns follow by an update of their own.
    fn write_rotation(&mut self, rotated: &[u32], out: &mut Vec<Statement>) {
        let keys = |key: fn(&Entity) -> u32| -> Arc<[u32]> {
            rotated.iter().map(|&entity| key(&self.entities[entity as usize])).collect()
        };
        let mut params = self.key_params(&keys(|entity| entity.origin));
        params.extend(self.key_params(&keys(|entity| entity.current)));
        self.write(Shape::Rotate, Operation::Update, params, rotated.len(), out);
    }

    fn write_update_groups(&mut self, entities: &[u32], find: Find, out: &mut Vec<Statement>) {
        for (set, members) in self.by_columns(entities) {
            let rekey = find == Find::Moving;
            if find == Find::Moved && set.is_empty() {
                continue;
            }
            let key = |&entity: &u32| {
                let entity = &self.entities[entity as usize];
                if find == Find::Moved { entity.current } else { entity.origin }
            };
            let keys: Arc<[u32]> = members.iter().map(key).collect();
            let mut params = self.key_params(&keys);
            let is_key = |column| self.table.route.map.key.contains(&column);
            params.extend(self.value_params(&members, |column| set.contains(column) || (rekey && is_key(column))));
            self.write(Shape::Update { set, rekey }, Operation::Update, params, members.len(), out);
        }
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

    fn write(
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

    fn push(&mut self, shape: Shape, operation: Operation, params: Vec<Param>, rows: u64, out: &mut Vec<Statement>) {
        let sql = self.table.text_of(&shape);
        out.push(Statement { sql, params, table: self.table.route.map.target.clone(), operation, rows });
    }

    /// Changes that were not folded, in source order. Runs of inserts are one statement.
    pub fn write_steps(&mut self, out: &mut Vec<Statement>) {
        let steps = std::mem::take(&mut self.steps);
        let mut run = Vec::new();
        for step in steps {
            match step {
                Step::Insert(row) => run.push(row),
                Step::Delete(old) => {
                    self.write_run(&mut run, out);
                    self.write_delete_one(old, out);
                }
                Step::Update { old, new } => {
                    self.write_run(&mut run, out);
                    self.write_update_one(old, new, out);
                }
            }
        }
        self.write_run(&mut run, out);
    }

    fn write_run(&mut self, run: &mut Vec<u32>, out: &mut Vec<Statement>) {
        if run.is_empty() {
            return;
        }
        let picks: Arc<[u32]> = run.drain(..).collect();
        let columns = self.table.route.map.columns.len();
        let params = (0..columns).map(|column| Param::TextArray(TextArray::new(&self.rows, &picks, column))).collect();
        self.write(Shape::Insert, Operation::Insert, params, picks.len(), out);
    }

    fn write_delete_one(&mut self, old: u32, out: &mut Vec<Statement>) {
        let nulls = self.nulls(old);
        let params = self.cells(old, |column| !nulls.contains(column));
        self.push(Shape::DeleteOne { nulls }, Operation::Delete, params, 1, out);
    }

    fn write_update_one(&mut self, old: u32, new: u32, out: &mut Vec<Statement>) {
        let nulls = self.nulls(old);
        let (before, after) = (&self.rows[old as usize], &self.rows[new as usize]);
        let is_set = |&column: &usize| {
            let value = after.value(column);
            let key_stays = self.table.route.map.key.contains(&column) && value == before.value(column);
            value != Value::Unchanged && !key_stays
        };
        let set = ColumnSet::of(after.len(), (0..after.len()).filter(is_set));
        let mut params = self.cells(old, |column| !nulls.contains(column));
        params.extend(self.cells(new, |column| set.contains(column)));
        self.push(Shape::UpdateOne { nulls, set }, Operation::Update, params, 1, out);
    }

    fn nulls(&self, row: u32) -> ColumnSet {
        let row = &self.rows[row as usize];
        ColumnSet::of(row.len(), (0..row.len()).filter(|&column| row.value(column) == Value::Null))
    }

    fn cells(&self, row: u32, wanted: impl Fn(usize) -> bool) -> Vec<Param> {
        let columns = 0..self.table.route.map.columns.len();
        columns
            .filter(|&column| wanted(column))
            .map(|column| Param::Text(TextCell::new(&self.rows, row, column)))
            .collect()
    }
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
