//! The end of a stretch: in which order the tables' outcomes are written.

use std::collections::HashSet;

use tidegate_model::TableName;

use super::outcome::{Outcome, write_together};
use super::shape::{self, Shape};
use super::{Operation, Planner, Statement, TruncateAs};

/// How changed rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Updates {
    /// Where they are.
    InPlace,
    /// All of a table out, and back changed.
    OutAndBack,
}

impl Planner {
    /// Writes what was folded since the last stretch.
    pub(super) fn end_stretch(&mut self, updates: Updates, out: &mut Vec<Statement>) {
        let outcomes = self.tables.iter_mut().zip(&mut self.folds).filter(|(_, fold)| !fold.is_empty());
        let mut outcomes: Vec<Outcome<'_>> = outcomes.map(|(table, fold)| Outcome::of(fold, table)).collect();
        let mut circles: Vec<&mut [Outcome<'_>]> = outcomes.chunk_by_mut(|a, b| a.same_circle(b)).collect();
        if updates == Updates::OutAndBack {
            // What is taken by a row that is there must be free, also where it means that a reference is refused: that
            // is what was tried before.
            circles.iter_mut().rev().for_each(|circle| write_together(circle, &Shape::Delete, out));
        }
        for circle in &mut circles {
            write_arrivals(circle, updates, out);
        }
        circles.iter_mut().rev().for_each(|circle| write_together(circle, &Shape::Delete, out));
    }

    /// Empties tables. One that an outside table references cannot be truncated, not even in a session without foreign
    /// keys, so its rows are deleted.
    pub(super) fn truncate(&mut self, emptied: &[usize], out: &mut Vec<Statement>) {
        let inside: HashSet<usize> = emptied.iter().copied().collect();
        let is_deleted = |index: &usize| {
            let target = &self.tables[*index].route.map.target;
            let mut outside = self.tables.iter().enumerate().filter(|(other, _)| !inside.contains(other));
            self.truncate_as == TruncateAs::Delete
                || outside.any(|(_, other)| other.route.map.references.contains(target))
        };
        // Children first, as deletes go.
        let mut emptied = emptied.to_vec();
        emptied.sort_unstable_by(|a, b| b.cmp(a));
        emptied.dedup();
        let (deleted, truncated): (Vec<usize>, Vec<usize>) = emptied.into_iter().partition(is_deleted);
        let statement = |sql: String, table: TableName| Statement {
            sql: sql.into(),
            params: Vec::new(),
            table,
            operation: Operation::Truncate,
            rows: 0,
        };
        let truncated: Vec<_> = truncated.into_iter().map(|index| &self.tables[index]).collect();
        if let Some(first) = truncated.first() {
            out.push(statement(shape::truncate(&truncated), shape::target(first)));
        }
        let deleted = deleted.into_iter().map(|index| &self.tables[index]);
        out.extend(deleted.map(|table| statement(shape::delete_all(table), shape::target(table))));
    }
}

/// Writes all but the deletes that go last. A table that is not referenced frees its values first; where foreign keys
/// are enforced rows that others reference come first, and all rows of a circle at once.
fn write_arrivals(circle: &mut [Outcome<'_>], updates: Updates, out: &mut Vec<Statement>) {
    let rows_first = circle.iter().any(Outcome::deletes_last) && updates == Updates::InPlace;
    if rows_first {
        write_together(circle, &Shape::Insert, out);
    }
    for outcome in &mut *circle {
        if !outcome.deletes_last() {
            outcome.write_deletes(out);
        }
        outcome.write_updates(updates, out);
        outcome.write_steps(out);
    }
    write_together(circle, &Shape::Insert, out);
}
