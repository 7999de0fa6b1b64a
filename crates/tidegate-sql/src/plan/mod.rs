//! Folds source changes into few set-based statements, or writes them one by one. Pure: no I/O and no clock.
//!
//! ```text
//!   changes --> RowChange --> Fold (per table: one final operation per row) --> Outcome --> statements
//!               (checked)      |                                                (ordered, grouped by shape)
//!                              +-- a contradiction, TRUNCATE, or the end of the slice ends a stretch
//! ```
//!
//! A plan is one or more stretches in source order. Inside a stretch only the last state of a row counts, and
//! statements are ordered so that unique values are free before they are taken and, where foreign keys are enforced, so
//! that parents are there before their children and go after them. Tables that reference each other in a circle are
//! written by one statement, at whose end their keys hold.

mod contest;
mod fold;
mod order;
mod outcome;
mod param;
mod problem;
mod shape;
mod single;
mod size;
mod steps;
mod stretch;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use tidegate_model::{Change, Position, Problem, RelationId, SourceTable, TableName, TableRoute};

use crate::dialect::Dialect;

pub use contest::{Action, Contest, Found, Verdict, verdict};
pub(crate) use order::parents_first;
pub use param::{Param, TextArray, TextCell};
pub use problem::row_not_found;
pub use single::Single;

use fold::Fold;
use stretch::Updates;
use table::{RowChange, Table};

/// What the applying session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRights {
    /// Whether foreign keys are checked. They are not under `session_replication_role = replica`, and always are on
    /// CockroachDB.
    pub foreign_keys_enforced: bool,
}

/// What becomes of a TRUNCATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TruncateAs {
    /// The target's own TRUNCATE: quick, but a reader with an older snapshot may see the table empty, and on CockroachDB
    /// it ends every changefeed of the table.
    #[default]
    Truncate,
    /// A DELETE of every row.
    Delete,
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
    /// Parents before children, those of a circle next to each other.
    tables: Vec<Table>,
    by_id: HashMap<RelationId, usize>,
    rights: SessionRights,
    truncate_as: TruncateAs,
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
    pub fn new(routes: Vec<TableRoute>, rights: SessionRights, dialect: Dialect) -> Self {
        let referenced: HashSet<TableName> = routes.iter().flat_map(|route| route.map.references.clone()).collect();
        let table = |(route, circle): (TableRoute, usize)| {
            let deletes_last = rights.foreign_keys_enforced && referenced.contains(&route.map.target);
            Table::new(route, dialect, deletes_last, circle)
        };
        let tables: Vec<Table> = order::parents_first(routes).into_iter().map(table).collect();
        let by_id = tables.iter().enumerate().map(|(index, table)| (table.route.map.source.id, index)).collect();
        let folds = tables.iter().map(|table| Fold::new(table.keys_stay_taken())).collect();
        Planner { tables, by_id, rights, truncate_as: TruncateAs::default(), folds }
    }

    /// Chooses what becomes of a TRUNCATE.
    pub fn truncating_as(self, truncate_as: TruncateAs) -> Self {
        Planner { truncate_as, ..self }
    }

    /// Says what becomes of a TRUNCATE from now on.
    pub fn truncate_as(&mut self, truncate_as: TruncateAs) {
        self.truncate_as = truncate_as;
    }

    /// Plans changes until the limit is reached or there are no more; `None` where there were none at all. Changes that
    /// the copy of their table has seen are skipped.
    pub fn slice(
        &mut self,
        changes: &mut dyn Iterator<Item = Result<(Position, Change), Problem>>,
        limit: SliceLimit,
    ) -> Result<Option<Plan>, Problem> {
        self.forget();
        let mut plan = Plan::default();
        let (mut bytes, mut taken) = (0, 0);
        while taken == 0 || (taken < limit.changes && bytes < limit.bytes) {
            let Some(next) = changes.next() else { break };
            let (position, change) = next?;
            bytes += change.memory_bytes();
            taken += 1;
            self.take(&position, change, &mut plan)?;
        }
        self.end_stretch(Updates::InPlace, &mut plan.statements);
        Ok((taken > 0).then_some(plan))
    }

    /// Plans all changes so that values may change hands between rows in any way: every changed row of a table is out
    /// before any is back. `None` where the target cannot do that. Changes that the copy of their table has seen are
    /// skipped.
    pub fn replacing(
        &mut self,
        changes: &mut dyn Iterator<Item = Result<(Position, Change), Problem>>,
    ) -> Result<Option<Plan>, Problem> {
        if self.tables.iter().any(|table| table.dialect.is_cockroach()) {
            return Ok(None);
        }
        self.forget();
        let mut plan = Plan::default();
        for next in changes {
            let (position, change) = next?;
            self.take(&position, change, &mut plan)?;
        }
        self.end_stretch(Updates::OutAndBack, &mut plan.statements);
        Ok(Some(plan))
    }

    /// Forgets what was folded. A slice that ended in an error has left its changes behind.
    fn forget(&mut self) {
        self.folds.iter_mut().for_each(|fold| drop(fold.restart()));
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
        self.forget();
        let table = &self.tables[index];
        let (operation, row) = single::subject(&change);
        let key = single::readable_key(table, row);
        let (source, target) = (table.route.map.source.name.clone(), table.route.map.target.clone());
        let mut statements = Vec::new();
        if whole && table.goes_by_whole_rows() {
            self.folds[index].step(change);
        } else {
            self.fold(index, change, &mut statements);
        }
        self.end_stretch(Updates::InPlace, &mut statements);
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
                    self.end_stretch(Updates::InPlace, &mut plan.statements);
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
            self.end_stretch(Updates::InPlace, out);
            let taken = self.folds[index].take(&self.tables[index], change);
            assert!(taken.is_ok(), "a new stretch takes every change");
        }
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
