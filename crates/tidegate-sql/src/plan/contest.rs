//! Changes that are judged by the row that they find: what is asked of the target, and what may be written then.
//!
//! Both databases are open for writing. A change says what its row was before and what it is after. If the target has the
//! row as it was before, nobody else has changed it and the change is written; if not, somebody has, and one of the two
//! is given up ([`verdict`]). A change that moves a key is one that takes a row away and one that brings a row.

use std::sync::Arc;

use tidegate_model::{Change, OldRow, Position, Problem, Row, TableName, Value};

use super::param::{Param, Rows, TextArray, TextCell};
use super::shape::{ColumnSet, Shape};
use super::single::readable_key;
use super::table::{RowChange, Table, text};
use super::{Operation, Planner, Single, Statement, problem};

/// One row of a change, with everything that may have to be sent for it.
#[derive(Clone, Debug)]
pub struct Contest {
    /// The table at the source.
    pub source: TableName,
    /// The table at the target.
    pub target: TableName,
    /// The columns of the key: their names at the source and at the target, and the value.
    pub key: Vec<(String, String, String)>,
    /// What became of the row at the source.
    pub operation: Operation,
    /// Reads and locks the row: no row if there is none, else whether it is as it was before the change and, at
    /// CockroachDB, when it was written.
    pub probe: Statement,
    insert: Option<Statement>,
    /// Sets what the change has changed.
    update: Option<Statement>,
    /// Sets every column.
    overwrite: Option<Statement>,
    delete: Option<Statement>,
    readable_key: String,
}

/// What a change has found at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No row.
    Nothing,
    /// The row as it was before the change.
    AsBefore,
    /// Another row of that key.
    Otherwise,
}

/// What is done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is written.
    Keep,
    /// The row is added.
    Insert,
    /// What the change has changed is set.
    Update,
    /// All of the row is set.
    Overwrite,
    /// The row is removed.
    Delete,
}

/// What follows from what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Somebody else has changed the row meanwhile.
    pub conflict: bool,
    /// What is done.
    pub action: Action,
}

/// Judges a change. `wins`: its source is the truth, so that it is written whatever it has found.
pub fn verdict(operation: Operation, found: Found, wins: bool) -> Verdict {
    let brings = operation == Operation::Insert;
    let conflict = found != if brings { Found::Nothing } else { Found::AsBefore };
    let action = match (operation, found) {
        _ if conflict && !wins => Action::Keep,
        (Operation::Delete, Found::Nothing) => Action::Keep,
        (Operation::Delete, _) => Action::Delete,
        (_, Found::Nothing) => Action::Insert,
        (_, Found::AsBefore) => Action::Update,
        (_, Found::Otherwise) => Action::Overwrite,
    };
    Verdict { conflict, action }
}

impl Contest {
    /// Returns the statement of an action; `None` where there is nothing to write.
    pub fn statement(&self, action: Action) -> Option<&Statement> {
        match action {
            Action::Keep => None,
            Action::Insert => self.insert.as_ref(),
            Action::Update => self.update.as_ref(),
            Action::Overwrite => self.overwrite.as_ref(),
            Action::Delete => self.delete.as_ref(),
        }
    }

    /// Returns it as what a refusal tells of.
    pub fn told(&self) -> Single {
        Single {
            statements: Vec::new(),
            table: self.target.clone(),
            source: self.source.clone(),
            operation: self.operation,
            key: self.readable_key.clone(),
        }
    }
}

impl Planner {
    /// Takes a change apart into the rows that it is about, in order. Changes that the copy of their table has seen are
    /// skipped. `AP072`: a TRUNCATE says nothing of rows. `AP073`: the change does not tell the row before.
    pub fn contests(&mut self, position: &Position, change: Change) -> Result<Vec<Contest>, Problem> {
        let (Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. }) = &change
        else {
            let Change::Truncate { tables } = &change else { return Ok(Vec::new()) };
            let emptied = self.all_applicable(tables, position)?;
            let first = emptied.first().map(|index| &self.tables[*index].route.map.source);
            return first.map_or(Ok(Vec::new()), |table| Err(problem::truncate_contested(table, position)));
        };
        let table = Arc::clone(table);
        let Some(index) = self.applicable(&table, position)? else { return Ok(Vec::new()) };
        let told = matches!(
            &change,
            Change::Insert { .. }
                | Change::Update { old: Some(OldRow::Full(_)), .. }
                | Change::Delete { old: OldRow::Full(_), .. }
        );
        let planned = &mut self.tables[index];
        if !told || !planned.has_key() {
            return Err(problem::no_image_before(&planned.route.map.source, position));
        }
        Ok(match planned.row_change(change, position)? {
            RowChange::Insert(new) => vec![contest(planned, None, Some(new))],
            RowChange::Delete(old) => vec![contest(planned, Some(old), None)],
            RowChange::Update { old, new, .. } => {
                let old = old.expect("an update without was refused just now");
                let new = completed(&old, &new);
                if planned.same_key(&old, &new) {
                    vec![contest(planned, Some(old), Some(new))]
                } else {
                    vec![contest(planned, Some(old), None), contest(planned, None, Some(new))]
                }
            }
        })
    }
}

/// Fills in what was not sent because it did not change.
fn completed(old: &Row, new: &Row) -> Row {
    let value = |(old, new)| if new == Value::Unchanged { old } else { new };
    old.values().zip(new.values()).map(value).collect()
}

fn contest(table: &mut Table, before: Option<Row>, after: Option<Row>) -> Contest {
    let operation = match (&before, &after) {
        (None, _) => Operation::Insert,
        (Some(_), Some(_)) => Operation::Update,
        (Some(_), None) => Operation::Delete,
    };
    let (columns, compare) = (table.route.map.columns.len(), before.is_some());
    let changed = |index: &usize| match (&before, &after) {
        (Some(before), Some(after)) => before.value(*index) != after.value(*index),
        _ => false,
    };
    let changed: Vec<usize> = (0..columns).filter(changed).collect();
    let (all, key): (Vec<usize>, Vec<usize>) = ((0..columns).collect(), table.route.map.key.clone());
    let has_after = after.is_some();
    let rows: Rows = Arc::new(before.into_iter().chain(after).collect());
    let (first, last) = (0, u32::from(rows.len() == 2));
    let mut write = |shape: Shape, operation, cells: &[(u32, &[usize])]| {
        let array = |(pick, columns): &(u32, &[usize])| {
            let picks: Arc<[u32]> = Arc::new([*pick]);
            let arrays = columns.iter().map(|column| Param::TextArray(TextArray::new(&rows, &picks, *column)));
            arrays.collect::<Vec<_>>()
        };
        let params = cells.iter().flat_map(array).chain([Param::Rows(1)]).collect();
        Statement { sql: table.text_of(&shape), params, table: table.route.map.target.clone(), operation, rows: 1 }
    };
    let update = |set: &[usize]| Shape::Update { set: ColumnSet::of(columns, set.iter().copied()), rekey: false };
    let sets = operation == Operation::Update && !changed.is_empty();
    let insert = has_after.then(|| write(Shape::Insert, Operation::Insert, &[(last, &all)]));
    let set = |set: &[usize]| (update(set), Operation::Update);
    let change = sets
        .then(|| set(&changed))
        .map(|(shape, operation)| write(shape, operation, &[(first, &key), (last, &changed)]));
    let (shape, updates) = set(&all);
    let overwrite = has_after.then(|| write(shape, updates, &[(first, &key), (last, &all)]));
    let delete = (!has_after).then(|| write(Shape::Delete, Operation::Delete, &[(first, &key)]));
    let cell = |column: &usize| Param::Text(TextCell::new(&rows, first, *column));
    let compared: &[usize] = if compare { &all } else { &[] };
    let probe = Statement {
        sql: table.text_of(&Shape::Contest { compare }),
        params: key.iter().chain(compared).map(cell).collect(),
        table: table.route.map.target.clone(),
        operation,
        rows: 1,
    };
    let row = &rows[0];
    let named = |index: &usize| {
        let column = &table.route.map.columns[*index];
        let value = String::from_utf8_lossy(text(row, *index)).into_owned();
        (column.source.to_string(), column.target.to_string(), value)
    };
    Contest {
        source: table.route.map.source.name.clone(),
        target: table.route.map.target.clone(),
        key: key.iter().map(named).collect(),
        operation,
        probe,
        insert,
        update: change,
        overwrite,
        delete,
        readable_key: readable_key(table, row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_finds_its_row_as_it_was_is_written_by_both_sides() {
        for (operation, found, action) in [
            (Operation::Insert, Found::Nothing, Action::Insert),
            (Operation::Update, Found::AsBefore, Action::Update),
            (Operation::Delete, Found::AsBefore, Action::Delete),
        ] {
            for wins in [false, true] {
                assert_eq!(verdict(operation, found, wins), Verdict { conflict: false, action });
            }
        }
    }

    #[test]
    fn of_two_that_collide_the_truth_is_written_and_the_other_is_not() {
        for (operation, found, action) in [
            (Operation::Insert, Found::Otherwise, Action::Overwrite),
            (Operation::Update, Found::Nothing, Action::Insert),
            (Operation::Update, Found::Otherwise, Action::Overwrite),
            (Operation::Delete, Found::Nothing, Action::Keep),
            (Operation::Delete, Found::Otherwise, Action::Delete),
        ] {
            assert_eq!(verdict(operation, found, true), Verdict { conflict: true, action });
            assert_eq!(verdict(operation, found, false), Verdict { conflict: true, action: Action::Keep });
        }
    }
}
