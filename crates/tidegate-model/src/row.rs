//! Rows: values as the source sent them, held without copying them apart.

use bytes::{Bytes, BytesMut};

/// One value of a row, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// A TOASTed value that the update did not touch and the source therefore did not send. Never NULL.
    Unchanged,
    /// The text form of the source's type, UTF-8.
    Text(&'a [u8]),
    /// The binary form of the source's type.
    Binary(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Unchanged,
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    start: u32,
    len: u32,
    kind: Kind,
}

/// A row, or the columns of it that were sent: one value for each column of its [`SourceTable`](crate::SourceTable), in
/// that order. Cheap to clone in its bytes, not in its cells.
#[derive(Clone)]
pub struct Row {
    bytes: Bytes,
    cells: Box<[Cell]>,
}

impl Row {
    /// Returns the number of columns.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Returns whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Returns the value of column `index`.
    ///
    /// # Panics
    /// If the row has no such column.
    pub fn value(&self, index: usize) -> Value<'_> {
        let cell = self.cells[index];
        let bytes = || &self.bytes[cell.start as usize..(cell.start + cell.len) as usize];
        match cell.kind {
            Kind::Null => Value::Null,
            Kind::Unchanged => Value::Unchanged,
            Kind::Text => Value::Text(bytes()),
            Kind::Binary => Value::Binary(bytes()),
        }
    }

    /// Returns the values in column order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Value<'_>> {
        (0..self.len()).map(|index| self.value(index))
    }

    /// Returns roughly how much memory the row holds.
    pub fn memory_bytes(&self) -> u64 {
        (self.bytes.len() + self.cells.len() * size_of::<Cell>() + size_of::<Row>()) as u64
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.values().eq(other.values())
    }
}

impl Eq for Row {}

impl std::fmt::Debug for Row {
    /// Shows the shape, not the values: rows hold other people's data, and logs travel.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.cells.iter().map(|cell| (cell.kind, cell.len))).finish()
    }
}

/// Builds a [`Row`], either over bytes that are there already or by copying values in.
#[derive(Debug)]
pub struct RowBuilder {
    cells: Vec<Cell>,
    copied: BytesMut,
}

impl RowBuilder {
    /// Starts a row of about `columns` columns.
    pub fn with_capacity(columns: usize) -> Self {
        RowBuilder { cells: Vec::with_capacity(columns), copied: BytesMut::new() }
    }

    /// Appends NULL.
    pub fn null(&mut self) {
        self.cells.push(Cell { start: 0, len: 0, kind: Kind::Null });
    }

    /// Appends a value that was not sent because it did not change.
    pub fn unchanged(&mut self) {
        self.cells.push(Cell { start: 0, len: 0, kind: Kind::Unchanged });
    }

    /// Appends the text value that will lie at `start..start + len` of the bytes given to [`RowBuilder::over`].
    pub fn text_at(&mut self, start: u32, len: u32) {
        self.cells.push(Cell { start, len, kind: Kind::Text });
    }

    /// Appends the binary value that will lie at `start..start + len` of the bytes given to [`RowBuilder::over`].
    pub fn binary_at(&mut self, start: u32, len: u32) {
        self.cells.push(Cell { start, len, kind: Kind::Binary });
    }

    /// Ends a row whose values lie in `bytes`. Nothing is copied.
    ///
    /// # Panics
    /// If a value reaches past the end of `bytes`: the decoder has checked lengths.
    pub fn over(self, bytes: Bytes) -> Row {
        assert!(self.copied.is_empty(), "a row lies either over given bytes or over copied ones");
        let end = |cell: &Cell| cell.start as usize + cell.len as usize;
        assert!(self.cells.iter().all(|cell| end(cell) <= bytes.len()), "a value reaches past the end of its row");
        Row { bytes, cells: self.cells.into_boxed_slice() }
    }

    /// Appends a value by copying it.
    pub fn push(&mut self, value: Value<'_>) {
        let mut copy = |bytes: &[u8], kind| {
            let start = u32::try_from(self.copied.len()).expect("a row is smaller than 4 GiB");
            let len = u32::try_from(bytes.len()).expect("a value is smaller than 4 GiB");
            self.copied.extend_from_slice(bytes);
            self.cells.push(Cell { start, len, kind });
        };
        match value {
            Value::Null => self.null(),
            Value::Unchanged => self.unchanged(),
            Value::Text(bytes) => copy(bytes, Kind::Text),
            Value::Binary(bytes) => copy(bytes, Kind::Binary),
        }
    }

    /// Ends a row whose values were all copied in.
    pub fn finish(self) -> Row {
        Row { bytes: self.copied.freeze(), cells: self.cells.into_boxed_slice() }
    }
}

impl<'a> FromIterator<Value<'a>> for Row {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(values: I) -> Self {
        let values = values.into_iter();
        let mut row = RowBuilder::with_capacity(values.size_hint().0);
        values.for_each(|value| row.push(value));
        row.finish()
    }
}

/// A row after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewRow {
    /// Every column is there.
    Full(Row),
    /// At least one column is [`Value::Unchanged`]: keep what the target has.
    Partial(Row),
}

impl NewRow {
    /// Returns the columns, whichever shape it is.
    pub fn row(&self) -> &Row {
        match self {
            NewRow::Full(row) | NewRow::Partial(row) => row,
        }
    }
}

impl From<Row> for NewRow {
    fn from(row: Row) -> Self {
        if row.values().any(|value| value == Value::Unchanged) { NewRow::Partial(row) } else { NewRow::Full(row) }
    }
}

/// A row before an update or a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldRow {
    /// Only the replica identity is there; the other columns are [`Value::Null`] and mean nothing.
    Key(Row),
    /// Every column is there (REPLICA IDENTITY FULL).
    Full(Row),
}

impl OldRow {
    /// Returns the columns, whichever shape it is.
    pub fn row(&self) -> &Row {
        match self {
            OldRow::Key(row) | OldRow::Full(row) => row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_what_was_put_in() {
        let values = [Value::Null, Value::Unchanged, Value::Text(b"x"), Value::Binary(b"\0\x01"), Value::Text(b"")];
        let row: Row = values.into_iter().collect();
        assert!(row.values().eq(values));
        assert!(matches!(NewRow::from(row), NewRow::Partial(_)));
    }

    #[test]
    fn debug_text_shows_no_values() {
        let row: Row = [Value::Text(b"secret")].into_iter().collect();
        assert!(!format!("{row:?}").contains("secret"));
    }
}
