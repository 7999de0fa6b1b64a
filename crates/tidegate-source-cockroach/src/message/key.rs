//! The key of a feed's row: a JSON array of the primary key's values.

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_model::{Row, RowBuilder, Value};

use super::problem::{MessageError, RowError};
use crate::table::TableInfo;
use crate::value;

/// The values of a key, not yet looked into.
#[derive(Debug)]
pub(super) struct Key<'a> {
    values: Vec<&'a RawValue>,
}

impl<'a> Key<'a> {
    pub(super) fn parse(json: &'a str) -> Result<Self, MessageError> {
        serde_json::from_str(json).map(|values| Key { values }).map_err(MessageError::Key)
    }

    /// Checks that the key has as many values as the primary key has columns.
    pub(super) fn check_length(&self, table: &TableInfo) -> Result<(), RowError> {
        if self.values.len() == table.key.len() {
            return Ok(());
        }
        Err(RowError::KeyLength { known: table.key.len(), found: self.values.len() })
    }

    /// Returns the key as one text, the same however it was spaced.
    pub(super) fn text(&self) -> Bytes {
        let len: usize = self.values.iter().map(|value| value.get().len() + 1).sum();
        let mut text = Vec::with_capacity(len + 1);
        text.push(b'[');
        for (at, value) in self.values.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            text.extend_from_slice(value.get().as_bytes());
        }
        text.push(b']');
        Bytes::from(text)
    }
}

/// Compares keys with rows. Holds memory for it.
#[derive(Debug, Default)]
pub(super) struct Texts {
    text: Vec<u8>,
}

impl Texts {
    /// Checks that a row that is there has the key it was sent with. It does not after the table got another primary
    /// key, and the rows of the target could then not be told by the one they have.
    ///
    /// Not for a row that is gone: the key of its deletion is read from the index alone, which does not know how many
    /// zeros a DECIMAL ended with.
    pub(super) fn check(&mut self, table: &TableInfo, key: &Key<'_>, row: &Row) -> Result<(), RowError> {
        key.check_length(table)?;
        for (column, value) in table.key.iter().zip(&key.values) {
            let Some(at) = column.column else { continue };
            self.text.clear();
            let is_there = value::write(&table.kinds[at], value.get(), &mut self.text)
                .map_err(|error| RowError::KeyValue { column: column.name.clone(), error })?;
            let in_key = if is_there { Value::Text(&self.text) } else { Value::Null };
            if row.value(at) != in_key {
                return Err(RowError::OtherKey { column: column.name.clone() });
            }
        }
        Ok(())
    }

    /// Makes the row that holds nothing but the key.
    pub(super) fn key_row(&mut self, table: &TableInfo, key: &Key<'_>) -> Result<Row, RowError> {
        key.check_length(table)?;
        let mut row = RowBuilder::with_capacity(table.kinds.len());
        for (at, kind) in table.kinds.iter().enumerate() {
            let value = table.key.iter().position(|column| column.column == Some(at)).map(|at| key.values[at]);
            self.text.clear();
            let is_there = match value {
                None => false,
                Some(value) => value::write(kind, value.get(), &mut self.text)
                    .map_err(|error| RowError::KeyValue { column: table.table.columns[at].name.clone(), error })?,
            };
            row.push(if is_there { Value::Text(&self.text) } else { Value::Null });
        }
        Ok(row.finish())
    }
}
