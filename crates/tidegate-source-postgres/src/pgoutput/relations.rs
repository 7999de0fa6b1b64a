//! The tables as the server described them, and changes that refer to them.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_model::{Change, NewRow, RelationId, SourceTable, Value};

use super::{DecodeError, Message};

/// The tables that were described so far, each as in its last description.
///
/// A table is the same `Arc` as long as it looks the same, so that what was prepared for it can be found by address.
#[derive(Clone, Debug, Default)]
pub struct Relations {
    known: HashMap<RelationId, Description>,
    /// Changes come in runs of one table.
    last: Option<Arc<SourceTable>>,
}

/// A table and when its description arrived, counted in descriptions of the connection.
#[derive(Clone, Debug)]
struct Description {
    table: Arc<SourceTable>,
    arrival: u64,
}

impl Relations {
    /// Takes a description, unless a later one is known: a streamed transaction's descriptions count only from its
    /// commit on, and the server may meanwhile have sent others.
    pub fn describe(&mut self, table: Arc<SourceTable>, arrival: u64) {
        let known = self.known.entry(table.id).or_insert_with(|| Description { table: Arc::clone(&table), arrival });
        if arrival < known.arrival {
            return;
        }
        known.arrival = arrival;
        if *known.table != *table {
            known.table = table;
            self.last = None;
        }
    }

    /// Takes over all descriptions of `other` that are later.
    pub fn describe_all(&mut self, other: Relations) {
        for description in other.known.into_values() {
            self.describe(description.table, description.arrival);
        }
    }

    /// Returns the known table that looks exactly like `table`.
    pub fn same(&self, table: &SourceTable) -> Option<Arc<SourceTable>> {
        let known = &self.known.get(&table.id)?.table;
        (**known == *table).then(|| Arc::clone(known))
    }

    /// Makes a change of an Insert, Update, Delete, Truncate or Logical message; `None` for other kinds.
    pub fn change(&mut self, message: Message) -> Result<Option<Change>, DecodeError> {
        Ok(Some(match message {
            Message::Insert { relation, new, .. } => {
                let table = self.table(relation)?;
                columns(&table, new.len())?;
                Change::Insert { table, new }
            }
            Message::Update { relation, old, new, .. } => {
                let table = self.table(relation)?;
                columns(&table, new.row().len())?;
                match &old {
                    Some(old) => columns(&table, old.row().len())?,
                    None => identity(&table, &new)?,
                }
                Change::Update { table, old, new }
            }
            Message::Delete { relation, old, .. } => {
                let table = self.table(relation)?;
                columns(&table, old.row().len())?;
                Change::Delete { table, old }
            }
            Message::Truncate { relations, .. } => {
                let tables = relations.into_iter().map(|relation| self.table(relation)).collect::<Result<_, _>>()?;
                Change::Truncate { tables }
            }
            Message::Logical { prefix, content, .. } => Change::Message { prefix: prefix.into(), content },
            Message::Begin { .. }
            | Message::Commit(_)
            | Message::Origin { .. }
            | Message::Relation { .. }
            | Message::Type { .. }
            | Message::StreamStart { .. }
            | Message::StreamStop
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => return Ok(None),
        }))
    }

    #[inline]
    fn table(&mut self, relation: RelationId) -> Result<Arc<SourceTable>, DecodeError> {
        if let Some(table) = &self.last
            && table.id == relation
        {
            return Ok(Arc::clone(table));
        }
        let known = self.known.get(&relation).ok_or(DecodeError::UnknownRelation { relation })?;
        self.last = Some(Arc::clone(&known.table));
        Ok(Arc::clone(&known.table))
    }
}

#[inline]
fn columns(table: &SourceTable, found: usize) -> Result<(), DecodeError> {
    let expected = table.columns.len();
    if found == expected {
        return Ok(());
    }
    Err(DecodeError::Columns { table: table.name.clone(), expected, found })
}

/// Without an old row the new one must say which row it is.
#[inline]
fn identity(table: &SourceTable, new: &NewRow) -> Result<(), DecodeError> {
    let NewRow::Partial(row) = new else { return Ok(()) };
    let missing =
        |(column, value): &(&tidegate_model::SourceColumn, Value<'_>)| column.identity && *value == Value::Unchanged;
    match table.columns.iter().zip(row.values()).find(missing) {
        None => Ok(()),
        Some((column, _)) => {
            Err(DecodeError::NoIdentity { table: table.name.clone(), column: column.name.to_string() })
        }
    }
}
