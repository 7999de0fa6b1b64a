//! Folds source changes into few set-based statements, or writes them one by one. Pure: no I/O and no clock.
//!
//! ```text
//!   changes --> RowChange --> Fold (per table: one final operation per row) --> Outcome --> statements
//!               (checked)      |                                                (ordered, grouped by shape)
//!                              +-- a contradiction, TRUNCATE, or the end of the slice ends a stretch
//! ```
//!
//! A plan is one or more stretches in source order. Inside a stretch only the last state of a row counts, and
//! statements are ordered so that unique values are free before they are taken, or, where the session enforces foreign
//! keys, so that parents are there before their children and go after them.

mod fold;
mod order;
mod outcome;
mod param;
mod problem;
mod shape;
mod single;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use tidegate_model::{Change, Position, Problem, RelationId, SourceTable, TableName, TableRoute};

pub use param::{Param, TextArray, TextCell};
pub use problem::row_not_found;
pub use single::Single;

use fold::Fold;
use outcome::Outcome;
use table::{RowChange, Table};

/// What the applying session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRights {
    /// Whether foreign keys are checked. They are not under `session_replication_role = replica`.
    pub foreign_keys_enforced: bool,
}

/// How much of the changes one plan takes in: it ends behind the change that reaches either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceLimit {
    /// Memory that the changes hold.
    pub bytes: u64,
    /// Number of changes.
    pub changes: u64,
}

/// Statements that have the effect of a stretch of changes, to be run in order in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// None, where the changes cancel out or are in the copy already: that is progress too.
    pub statements: Vec<Statement>,
    /// How many source changes are folded in; those that were skipped do not count.
    pub rows: u64,
}

/// A statement that raises 22012 at the server if it affects another number of rows than planned.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The text. The same for the same table, operation and set of columns: a key for prepared statements.
    pub sql: Arc<str>,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// The target table; of a TRUNCATE of several the first.
    pub table: TableName,
    /// What it does.
    pub operation: Operation,
    /// How many rows it affects; 0 for a TRUNCATE, which is the only one that does not check.
    pub rows: u64,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Adds rows.
    Insert,
    /// Changes rows, their keys included.
    Update,
    /// Removes rows.
    Delete,
    /// Empties tables.
    Truncate,
}

impl Operation {
    /// Returns its name, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Plans the changes of one stream.
pub struct Planner {
    /// Parents before children.
    tables: Vec<Table>,
    by_id: HashMap<RelationId, usize>,
    rights: SessionRights,
    /// One for each table: the stretch that is being folded.
    folds: Vec<Fold>,
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("tables", &self.tables.len()).field("rights", &self.rights).finish()
    }
}

impl Planner {
    /// Makes a planner for the tables of a stream.
    pub fn new(routes: Vec<TableRoute>, rights: SessionRights) -> Self {
        let tables: Vec<Table> = order::parents_first(routes).into_iter().map(Table::new).collect();
        let by_id = tables.iter().enumerate().map(|(index, table)| (table.route.map.source.id, index)).collect();
        let folds = tables.iter().map(|_| Fold::new(rights.foreign_keys_enforced)).collect();
        Planner { tables, by_id, rights, folds }
    }

    /// Plans changes until the limit is reached or there are no more; `None` where there were none at all. Changes that
    /// the copy of their table has seen are skipped.
    pub fn slice(
        &mut self,
        changes: &mut dyn Iterator<Item = Result<(Position, Change), Problem>>,
        limit: SliceLimit,
    ) -> Result<Option<Plan>, Problem> {
        // A slice that ended in an error has left its changes behind.
        self.folds.iter_mut().for_each(|fold| drop(fold.restart()));
        let mut plan = Plan::default();
        let (mut bytes, mut taken) = (0, 0);
        while taken == 0 || (taken < limit.changes && bytes < limit.bytes) {
            let Some(next) = changes.next() else { break };
            let (position, change) = next?;
            bytes += change.memory_bytes();
            taken += 1;
            self.take(&position, change, &mut plan)?;
        }
        self.end_stretch(&mut plan.statements);
        Ok((taken > 0).then_some(plan))
    }

    /// Plans one change by itself; `None` where it is skipped or changes no row. Forgets a slice that was under way.
    pub fn single(&mut self, position: &Position, change: &Change) -> Result<Option<Single>, Problem> {
        let whole = single::tells_whole_row(change);
        let (index, change) = match change {
            Change::Message { .. } => return Ok(None),
            Change::Truncate { tables } => return self.single_truncate(position, tables),
            Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => {
                let Some(index) = self.applicable(table, position)? else { return Ok(None) };
                (index, self.tables[index].row_change(change.clone(), position)?)
            }
        };
        self.folds.iter_mut().for_each(|fold| drop(fold.restart()));
        let table = &self.tables[index];
        let (operation, row) = single::subject(&change);
        let key = single::readable_key(table, row);
        let (source, target) = (table.route.map.source.name.clone(), table.route.map.target.clone());
        let mut statements = Vec::new();
        if whole && table.keys_may_meet() {
            self.folds[index].step(change);
        } else {
            self.fold(index, change, &mut statements);
        }
        self.end_stretch(&mut statements);
        Ok(Some(Single { statements, table: target, source, operation, key }))
    }

    fn single_truncate(&mut self, position: &Position, tables: &[Arc<SourceTable>]) -> Result<Option<Single>, Problem> {
        let emptied = self.all_applicable(tables, position)?;
        let Some(&first) = emptied.first() else { return Ok(None) };
        let map = &self.tables[first].route.map;
        let (source, table) = (map.source.name.clone(), map.target.clone());
        let mut statements = Vec::new();
        self.truncate(&emptied, &mut statements);
        let key = "all rows".to_owned();
        Ok(Some(Single { statements, table, source, operation: Operation::Truncate, key }))
    }

    fn take(&mut self, position: &Position, change: Change, plan: &mut Plan) -> Result<(), Problem> {
        match &change {
            Change::Message { .. } => return Ok(()),
            Change::Truncate { tables } => {
                let emptied = self.all_applicable(tables, position)?;
                if !emptied.is_empty() {
                    self.end_stretch(&mut plan.statements);
                    self.truncate(&emptied, &mut plan.statements);
                    plan.rows += 1;
                }
            }
            Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => {
                if let Some(index) = self.applicable(table, position)? {
                    let change = self.tables[index].row_change(change, position)?;
                    self.fold(index, change, &mut plan.statements);
                    plan.rows += 1;
                }
            }
        }
        Ok(())
    }

    /// Folds a change in; one that contradicts the stretch ends it and begins the next.
    fn fold(&mut self, index: usize, change: RowChange, out: &mut Vec<Statement>) {
        if let Err(change) = self.folds[index].take(&self.tables[index], change) {
            self.end_stretch(out);
            let taken = self.folds[index].take(&self.tables[index], change);
            assert!(taken.is_ok(), "a new stretch takes every change");
        }
    }

    /// Writes what was folded since the last stretch.
    fn end_stretch(&mut self, out: &mut Vec<Statement>) {
        let outcomes = self.tables.iter_mut().zip(&mut self.folds).filter(|(_, fold)| !fold.is_empty());
        let mut outcomes: Vec<Outcome<'_>> = outcomes.map(|(table, fold)| Outcome::of(fold, table)).collect();
        if self.rights.foreign_keys_enforced {
            for outcome in &mut outcomes {
                outcome.write_inserts(out);
                outcome.write_updates(out);
                outcome.write_steps(out);
            }
            outcomes.iter_mut().rev().for_each(|outcome| outcome.write_deletes(out));
        } else {
            for outcome in &mut outcomes {
                outcome.write_deletes(out);
                outcome.write_updates(out);
                outcome.write_steps(out);
                outcome.write_inserts(out);
            }
        }
    }

    /// Empties tables. One that an outside table references cannot be truncated, not even in a session without foreign
    /// keys, so its rows are deleted.
    fn truncate(&mut self, emptied: &[usize], out: &mut Vec<Statement>) {
        let inside: HashSet<usize> = emptied.iter().copied().collect();
        let referenced = |index: &usize| {
            let target = &self.tables[*index].route.map.target;
            let mut outside = self.tables.iter().enumerate().filter(|(other, _)| !inside.contains(other));
            outside.any(|(_, other)| other.route.map.references.contains(target))
        };
        // Children first, as deletes go.
        let mut emptied = emptied.to_vec();
        emptied.sort_unstable_by(|a, b| b.cmp(a));
        emptied.dedup();
        let (deleted, truncated): (Vec<usize>, Vec<usize>) = emptied.into_iter().partition(referenced);
        let target = |index: usize| self.tables[index].route.map.target.clone();
        let statement = |sql: String, table| Statement {
            sql: sql.into(),
            params: Vec::new(),
            table,
            operation: Operation::Truncate,
            rows: 0,
        };
        let targets: Vec<TableName> = truncated.into_iter().map(target).collect();
        if let Some(first) = targets.first() {
            out.push(statement(shape::truncate(&targets), first.clone()));
        }
        out.extend(deleted.into_iter().map(target).map(|table| statement(shape::delete_all(&table), table)));
    }

    fn all_applicable(&mut self, tables: &[Arc<SourceTable>], position: &Position) -> Result<Vec<usize>, Problem> {
        let mut applicable = Vec::with_capacity(tables.len());
        for table in tables {
            applicable.extend(self.applicable(table, position)?);
        }
        Ok(applicable)
    }

    /// Returns the table's index, or `None` where the change is in its copy already.
    fn applicable(&mut self, table: &Arc<SourceTable>, position: &Position) -> Result<Option<usize>, Problem> {
        // A table that was dropped and created again has another identity. Its name tells whether that was before its
        // copy, or is a change of shape.
        let namesake = || self.tables.iter().position(|other| other.route.map.source.name == table.name);
        let index = self.by_id.get(&table.id).copied().or_else(namesake);
        let index = index.ok_or_else(|| problem::unknown_table(table, position))?;
        Ok(self.tables[index].applies(table, position)?.then_some(index))
    }
}
