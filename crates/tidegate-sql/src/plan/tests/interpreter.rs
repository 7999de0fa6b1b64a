//! A small database that runs the statements of a plan as PostgreSQL would: in order, with its row counts checked, and
//! with a key that is unique after every row, in whatever order a statement visits its rows.

use std::collections::{BTreeMap, HashSet};

use tidegate_model::{TableName, Value};

use super::history::Cells;
use crate::plan::shape::{ColumnSet, Shape};
use crate::plan::{Operation, Param, Planner, Statement};

/// Rows by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database(pub BTreeMap<TableName, Vec<Cells>>);

impl Database {
    /// Returns the rows in an order of their own, to compare databases.
    pub fn sorted(mut self) -> Self {
        self.0.values_mut().for_each(|rows| rows.sort());
        self.0.retain(|_, rows| !rows.is_empty());
        self
    }

    /// Runs a statement; an error says what the server would refuse.
    pub fn run(&mut self, planner: &Planner, statement: &Statement) -> Result<(), String> {
        if statement.operation == Operation::Truncate {
            self.0.retain(|table, _| !statement.sql.contains(&format!("\"{}\"", table.name)));
            return Ok(());
        }
        let table = planner.tables.iter().find(|table| table.route.map.target == statement.table).unwrap();
        let shape = table.shape_of(&statement.sql).expect("every text comes from a shape");
        let mut run = Run {
            rows: self.0.entry(statement.table.clone()).or_default(),
            key: &table.route.map.key,
            columns: table.route.map.columns.len(),
            params: Params::of(statement),
        };
        let affected = match shape {
            Shape::Insert => run.insert(),
            Shape::Delete => run.delete(),
            Shape::Update { set, rekey } => run.update(&set, rekey),
            Shape::Replace { set, rekey } => run.replace(&set, rekey),
            Shape::DeleteOne { nulls } => run.one(&nulls, None),
            Shape::UpdateOne { nulls, set } => run.one(&nulls, Some(&set)),
            Shape::Contest { .. } => unreachable!("plans ask nothing"),
        }?;
        if affected != statement.rows {
            return Err(format!("{} affected {affected} rows of {}", statement.sql, statement.rows));
        }
        Ok(())
    }
}

/// Parameters, read one after another.
struct Params<'a> {
    params: std::slice::Iter<'a, Param>,
    rows: usize,
}

impl<'a> Params<'a> {
    fn of(statement: &'a Statement) -> Self {
        Params { params: statement.params.iter(), rows: statement.rows as usize }
    }

    fn array(&mut self) -> Vec<Option<String>> {
        let Some(Param::TextArray(array)) = self.params.next() else { panic!("an array was expected") };
        assert_eq!(array.len(), self.rows);
        array.values().map(owned).collect()
    }

    fn cell(&mut self) -> Option<String> {
        let Some(Param::Text(cell)) = self.params.next() else { panic!("a cell was expected") };
        owned(cell.value())
    }

    fn end(&mut self, counted: bool) {
        if counted {
            let Some(Param::Rows(rows)) = self.params.next() else { panic!("a row count was expected") };
            assert_eq!(*rows, self.rows as i64);
        }
        assert!(self.params.next().is_none());
    }
}

fn owned(value: Value<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        Value::Unchanged | Value::Binary(_) => panic!("a cell without text was sent"),
    }
}

struct Run<'a> {
    rows: &'a mut Vec<Cells>,
    key: &'a [usize],
    columns: usize,
    params: Params<'a>,
}

impl Run<'_> {
    fn key_of(&self, row: &Cells) -> Cells {
        self.key.iter().map(|&index| row[index].clone()).collect()
    }

    fn keys(&mut self) -> Vec<Cells> {
        let arrays: Vec<_> = self.key.iter().map(|_| self.params.array()).collect();
        (0..self.params.rows).map(|row| arrays.iter().map(|array| array[row].clone()).collect()).collect()
    }

    fn insert(&mut self) -> Result<u64, String> {
        let arrays: Vec<_> = (0..self.columns).map(|_| self.params.array()).collect();
        self.params.end(true);
        for row in 0..self.params.rows {
            let new: Cells = arrays.iter().map(|array| array[row].clone()).collect();
            if !self.key.is_empty() && self.rows.iter().any(|other| self.key_of(other) == self.key_of(&new)) {
                return Err(format!("insert of a key that is there: {:?}", self.key_of(&new)));
            }
            self.rows.push(new);
        }
        Ok(self.params.rows as u64)
    }

    fn delete(&mut self) -> Result<u64, String> {
        let keys = self.keys();
        self.params.end(true);
        let before = self.rows.len();
        let key = self.key;
        self.rows.retain(|row| {
            let of_row: Cells = key.iter().map(|&index| row[index].clone()).collect();
            !keys.contains(&of_row)
        });
        Ok((before - self.rows.len()) as u64)
    }

    fn update(&mut self, set: &ColumnSet, rekey: bool) -> Result<u64, String> {
        let keys = self.keys();
        let is_set = |index: &usize| set.contains(*index) || (rekey && self.key.contains(index));
        let columns: Vec<usize> = (0..self.columns).filter(is_set).collect();
        let arrays: Vec<_> = columns.iter().map(|_| self.params.array()).collect();
        self.params.end(true);
        let there: HashSet<Cells> = self.rows.iter().map(|row| self.key_of(row)).collect();
        let mut affected = 0;
        for (place, old) in keys.iter().enumerate() {
            let Some(found) = self.rows.iter().position(|row| self.key_of(row) == *old) else { continue };
            for (column, array) in columns.iter().zip(&arrays) {
                self.rows[found][*column] = array[place].clone();
            }
            let new = self.key_of(&self.rows[found]);
            if new != *old && there.contains(&new) {
                return Err(format!("in some order of rows {old:?} takes {new:?}, which is there"));
            }
            affected += 1;
        }
        Ok(affected)
    }

    fn replace(&mut self, set: &ColumnSet, rekey: bool) -> Result<u64, String> {
        let old = self.keys();
        let is_set = |index: &usize| set.contains(*index) || (rekey && self.key.contains(index));
        let columns: Vec<usize> = (0..self.columns).filter(is_set).collect();
        let arrays: Vec<_> = columns.iter().map(|_| self.params.array()).collect();
        self.params.end(true);
        let before = std::mem::take(self.rows);
        let place = |row: &Cells| old.iter().position(|key| *key == self.key_of(row));
        let (gone, mut all): (Vec<Cells>, Vec<Cells>) = before.into_iter().partition(|row| place(row).is_some());
        let affected = gone.len() as u64;
        for mut row in gone {
            let place = place(&row).unwrap();
            for (column, array) in columns.iter().zip(&arrays) {
                row[*column] = array[place].clone();
            }
            if all.iter().any(|other| self.key_of(other) == self.key_of(&row)) {
                return Err(format!("a row put back takes {:?}, which is there", self.key_of(&row)));
            }
            all.push(row);
        }
        *self.rows = all;
        Ok(affected)
    }

    fn one(&mut self, nulls: &ColumnSet, set: Option<&ColumnSet>) -> Result<u64, String> {
        let old: Cells =
            (0..self.columns).map(|index| if nulls.contains(index) { None } else { self.params.cell() }).collect();
        let new: Option<Vec<(usize, Option<String>)>> = set.map(|set| {
            (0..self.columns).filter(|index| set.contains(*index)).map(|index| (index, self.params.cell())).collect()
        });
        self.params.end(false);
        let Some(found) = self.rows.iter().position(|row| *row == old) else { return Ok(0) };
        match new {
            None => drop(self.rows.swap_remove(found)),
            Some(new) => new.into_iter().for_each(|(index, value)| self.rows[found][index] = value),
        }
        Ok(1)
    }
}
