//! Messages of a feed: from the bytes of a row (table, key, value) to typed rows and resolved timestamps. Pure.
//!
//! ```text
//!   table, key, value --> Envelope (names of the parts) --> Row (values by column type) --> Message
//! ```
//!
//! Nothing is taken for granted about white space, order of members or escapes. What a row says of its table that is
//! not so any more (another set of columns, a value of another form) does not end the feed at once: transactions before
//! it are still to come out, so it is given out as a [`Refusal`] with its place.

mod key;
mod problem;
mod row;
#[cfg(test)]
mod tests;
mod wrapped;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_model::{Hlc, OldRow, Problem, Row, SourceColumn, Value};

use crate::table::{TableInfo, Tables};
pub(crate) use problem::shown;
use problem::{MessageError, RowError};
use row::RowReader;
use wrapped::Wrapped;

/// How a feed writes its rows, as far as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `envelope = 'wrapped'` with `updated`; `diff`: with `diff`, too.
    Wrapped {
        /// Whether the feed tells rows as they were before.
        diff: bool,
    },
}

/// A message of a feed.
#[derive(Debug)]
pub enum Message {
    /// A row was changed.
    Row(FeedRow),
    /// A row was changed and cannot be carried.
    Refused(Refusal),
    /// Every change up to here has been sent at least once.
    Resolved(Hlc),
}

/// A row as it was changed by the transaction that committed at `updated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRow {
    /// Its table.
    pub table: Arc<TableInfo>,
    /// The primary key, hidden columns included, as JSON without white space: what makes rows of a table distinct.
    pub key: Bytes,
    /// The commit timestamp; of a row that a schema change sends again, the timestamp of that schema change.
    pub updated: Hlc,
    /// The timestamp of the version that the row is, where the feed tells it: before `updated` if it is sent again.
    pub mvcc: Option<Hlc>,
    /// What became of it.
    pub change: RowChange,
}

impl FeedRow {
    /// Returns whether the row is the copy of a version that a feed gives, or gave, by itself.
    pub fn is_copy(&self) -> bool {
        self.mvcc.is_some_and(|mvcc| mvcc < self.updated)
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// It was not there before.
    Insert(Row),
    /// It is now so. `old`: as it was, where the table has no key to tell it by, or old rows are wanted. A feed without
    /// `diff` tells inserts so, too.
    Update {
        /// The row before.
        old: Option<Row>,
        /// The row after; of a decoder that tells changed columns only, the others are [`Value::Unchanged`].
        new: Row,
    },
    /// It is gone.
    Delete(OldRow),
    /// It is not there and was not there before (a deletion of nothing).
    Nothing,
}

/// A row that cannot be carried: the stream ends when it comes to its place.
#[derive(Debug)]
pub struct Refusal {
    /// Its table.
    pub table: Arc<TableInfo>,
    /// Where it is in the history.
    pub updated: Hlc,
    /// Why.
    pub problem: Problem,
}

/// Decodes the messages of a feed. After an error it may be used on, but the feed has lost a message.
#[derive(Debug)]
pub struct Decoder {
    envelope: Envelope,
    tables: Tables,
    row: RowReader,
    texts: key::Texts,
    changed_only: bool,
    old_rows: Arc<AtomicBool>,
}

impl Decoder {
    /// Makes a decoder for a feed of these tables.
    pub fn new(envelope: Envelope, tables: impl IntoIterator<Item = Arc<TableInfo>>) -> Self {
        Decoder {
            envelope,
            tables: tables.into_iter().collect(),
            row: RowReader::default(),
            texts: key::Texts::default(),
            changed_only: false,
            old_rows: Arc::default(),
        }
    }

    /// Makes updates of rows with a key tell only the columns that they changed, as far as the feed tells what the row was.
    pub fn changed_only(self, changed_only: bool) -> Self {
        Decoder { changed_only, ..self }
    }

    /// While it is set, updates of rows with a key tell the row before, too, and all columns of both.
    pub fn old_rows(self, old_rows: Arc<AtomicBool>) -> Self {
        Decoder { old_rows, ..self }
    }

    /// Takes a row of the feed's result: its columns `table` and `key`, NULL for a resolved timestamp, and `value`, as
    /// raw bytes (not in the text form of `bytea`).
    pub fn decode(&mut self, table: Option<&[u8]>, key: Option<&[u8]>, value: &[u8]) -> Result<Message, Problem> {
        match self.envelope {
            Envelope::Wrapped { diff } => {
                let wrapped = Wrapped::parse(value).map_err(|error| error.problem(table, key))?;
                if let (Some(resolved), None) = (wrapped.resolved, wrapped.after) {
                    return Ok(Message::Resolved(resolved));
                }
                self.wrapped_row(table, key, diff, &wrapped).map_err(|error| error.problem(table, key))
            }
        }
    }

    fn wrapped_row(
        &mut self,
        table: Option<&[u8]>,
        key: Option<&[u8]>,
        diff: bool,
        wrapped: &Wrapped<'_>,
    ) -> Result<Message, MessageError> {
        let (Some(after), Some(updated), None) = (wrapped.after, wrapped.updated, wrapped.resolved) else {
            return Err(wrapped.incomplete());
        };
        if diff && wrapped.before.is_none() {
            return Err(MessageError::Missing("before"));
        }
        let table = self.table(table, wrapped)?;
        let key = match key.filter(|key| !key.is_empty()) {
            Some(key) => std::str::from_utf8(key).map_err(|_| MessageError::NotUtf8)?,
            None => wrapped.key.ok_or(MessageError::Missing("key"))?.get(),
        };
        let key = key::Key::parse(key)?;
        let text = key.text();
        if wrapped.mvcc.is_some_and(|mvcc| mvcc > updated) {
            return Err(MessageError::MvccAfterUpdated);
        }
        let is_copy = wrapped.mvcc.is_some_and(|mvcc| mvcc < updated);
        let change = self.change(&table, &key, after, wrapped.before);
        let change = change.and_then(|change| self.verified(change, &table, wrapped.before.filter(|_| is_copy)));
        match change.map(|change| self.without_unchanged(change, &table, wrapped.before)) {
            Ok(change) => Ok(Message::Row(FeedRow { table, key: text, updated, mvcc: wrapped.mvcc, change })),
            Err(error) => {
                let problem = error.problem(&table, &text, updated);
                Ok(Message::Refused(Refusal { table, updated, problem }))
            }
        }
    }

    /// Leaves out of an update what it did not change, where that is wanted and the row before is told.
    fn without_unchanged(&mut self, change: RowChange, table: &TableInfo, before: Option<&RawValue>) -> RowChange {
        let (true, RowChange::Update { old: None, new }, Some(before)) = (self.changed_only, &change, before) else {
            return change;
        };
        // A row of before the table got its columns says nothing of them.
        let Ok(old) = self.row.read(table, before) else { return change };
        let columns = table.table.columns.iter().zip(old.values().zip(new.values()));
        let value = |(column, (old, new)): (&SourceColumn, (Value<'_>, _))| {
            if old == new && !column.identity { Value::Unchanged } else { new }
        };
        RowChange::Update { old: None, new: columns.map(value).collect() }
    }

    /// Refuses the copy of a row that a schema change sends again with other values than it had: a copy is dropped, because
    /// it may be older than what was sent before, and nothing else would tell these values. `before` is that of a copy.
    fn verified(
        &mut self,
        change: RowChange,
        table: &TableInfo,
        before: Option<&RawValue>,
    ) -> Result<RowChange, RowError> {
        let (RowChange::Update { new, .. }, Some(before)) = (&change, before) else { return Ok(change) };
        match self.row.read(table, before) {
            Ok(old) if old == *new => Ok(change),
            // Columns that came with the schema change are told by the row as it is now.
            Err(RowError::MissingColumn(_)) => Ok(change),
            Ok(_) | Err(_) => Err(RowError::Rewritten),
        }
    }

    fn table(&self, table: Option<&[u8]>, wrapped: &Wrapped<'_>) -> Result<Arc<TableInfo>, MessageError> {
        let name = match table {
            Some(name) => std::str::from_utf8(name).map_err(|_| MessageError::NotUtf8)?,
            None => wrapped.topic.as_deref().ok_or(MessageError::Missing("topic"))?,
        };
        let found = self.tables.find(name).map(Arc::clone);
        found.ok_or_else(|| MessageError::UnknownTable(name.to_owned()))
    }

    fn change(
        &mut self,
        table: &TableInfo,
        key: &key::Key<'_>,
        after: &RawValue,
        before: Option<&RawValue>,
    ) -> Result<RowChange, RowError> {
        let is_null = |json: &RawValue| json.get() == "null";
        if is_null(after) {
            return match before {
                Some(before) if is_null(before) => Ok(RowChange::Nothing),
                Some(before) => {
                    key.check_length(table)?;
                    Ok(RowChange::Delete(OldRow::Full(self.row.read(table, before)?)))
                }
                None if table.carries_old_rows() => Err(RowError::NoOldRow),
                None => Ok(RowChange::Delete(OldRow::Key(self.texts.key_row(table, key)?))),
            };
        }
        let new = self.row.read(table, after)?;
        self.texts.check(table, key, &new)?;
        match before {
            Some(before) if is_null(before) => Ok(RowChange::Insert(new)),
            Some(before) if table.carries_old_rows() => {
                Ok(RowChange::Update { old: Some(self.row.read(table, before)?), new })
            }
            None if table.carries_old_rows() => Err(RowError::NoOldRow),
            // A row of before the table got its columns is told without: whoever needs it refuses the change.
            Some(before) if self.old_rows.load(Ordering::Relaxed) => {
                Ok(RowChange::Update { old: self.row.read(table, before).ok(), new })
            }
            // The key says which row it is; how it was before is not wanted.
            Some(_) | None => Ok(RowChange::Update { old: None, new }),
        }
    }
}
