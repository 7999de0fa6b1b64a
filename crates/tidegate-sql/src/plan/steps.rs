//! Changes that were not folded: of tables without a key, and of rows that are told apart by all of their columns.

use std::sync::Arc;

use tidegate_model::Value;

use super::fold::Step;
use super::outcome::Outcome;
use super::param::{Param, TextArray, TextCell};
use super::shape::{ColumnSet, Shape};
use super::{Operation, Statement};

impl Outcome<'_> {
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
        let run = std::mem::take(run);
        let size = |row: &u32| self.rows[*row as usize].memory_bytes();
        for some in self.limit().split(&run, size) {
            let picks: Arc<[u32]> = some.into();
            let columns = 0..self.table.route.map.columns.len();
            let params = columns.map(|column| Param::TextArray(TextArray::new(&self.rows, &picks, column))).collect();
            self.write(Shape::Insert, Operation::Insert, params, picks.len(), out);
        }
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
