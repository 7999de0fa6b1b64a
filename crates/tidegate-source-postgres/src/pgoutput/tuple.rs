//! Tuples: the rows inside messages.

use bytes::Bytes;
use tidegate_model::{NewRow, Row, RowBuilder};

use super::DecodeError;
use super::cursor::Cursor;

/// A value, or why there is none. Offsets count from the start of the message.
enum Cell {
    Null,
    Unchanged,
    Text { start: usize, len: usize },
    Binary { start: usize, len: usize },
}

/// Reads a tuple in which every value must be there: a new row of an insert, or an old row.
pub(super) fn whole(cursor: &mut Cursor<'_>, payload: &Bytes) -> Result<Row, DecodeError> {
    match read(cursor, payload)? {
        NewRow::Full(row) => Ok(row),
        NewRow::Partial(_) => Err(cursor.invalid("row: a value was left out as unchanged")),
    }
}

/// Reads a tuple in which values may be left out as unchanged.
pub(super) fn read(cursor: &mut Cursor<'_>, payload: &Bytes) -> Result<NewRow, DecodeError> {
    let columns = columns(cursor)?;
    let base = cursor.at();
    let mut row = Tuple::new(columns, base);
    for _ in 0..columns {
        row.push(cell(cursor)?);
    }
    Ok(row.over(payload.slice(base..cursor.at())))
}

/// Reads the new tuple of an update again and takes what was left out from the full old row, which `old` is in front
/// of. Both lie in the same message, so that the new row is still only a slice of it.
pub(super) fn read_with_old(
    cursor: &mut Cursor<'_>,
    mut old: Cursor<'_>,
    payload: &Bytes,
) -> Result<NewRow, DecodeError> {
    let columns = columns(cursor)?;
    if self::columns(&mut old)? != columns {
        return Err(cursor.invalid("number of columns: the old row has another"));
    }
    let base = old.at();
    let mut row = Tuple::new(columns, base);
    for _ in 0..columns {
        let before = cell(&mut old)?;
        row.push(match cell(cursor)? {
            Cell::Unchanged => before,
            sent => sent,
        });
    }
    Ok(row.over(payload.slice(base..cursor.at())))
}

fn columns(cursor: &mut Cursor<'_>) -> Result<usize, DecodeError> {
    let columns = usize::from(cursor.u16("number of columns")?);
    // Each value takes a byte at least: room is made only for what can be there.
    if columns > cursor.left() {
        return Err(cursor.invalid("number of columns"));
    }
    Ok(columns)
}

#[inline]
fn cell(cursor: &mut Cursor<'_>) -> Result<Cell, DecodeError> {
    let kind = cursor.u8("kind of value")?;
    match kind {
        b't' | b'b' => {
            let len = cursor.length("length of a value")?;
            let start = cursor.at();
            cursor.take(len, "value")?;
            Ok(if kind == b't' { Cell::Text { start, len } } else { Cell::Binary { start, len } })
        }
        b'n' => Ok(Cell::Null),
        b'u' => Ok(Cell::Unchanged),
        _ => Err(cursor.invalid("kind of value")),
    }
}

/// A row being built over the part of the message that begins at `base`.
struct Tuple {
    row: RowBuilder,
    base: usize,
    complete: bool,
}

impl Tuple {
    fn new(columns: usize, base: usize) -> Self {
        Tuple { row: RowBuilder::with_capacity(columns), base, complete: true }
    }

    #[inline]
    fn push(&mut self, cell: Cell) {
        let narrow = |offset: usize| u32::try_from(offset).expect("a message is at most 1 GiB: the cursor checked");
        match cell {
            Cell::Null => self.row.null(),
            Cell::Unchanged => {
                self.complete = false;
                self.row.unchanged();
            }
            Cell::Text { start, len } => self.row.text_at(narrow(start - self.base), narrow(len)),
            Cell::Binary { start, len } => self.row.binary_at(narrow(start - self.base), narrow(len)),
        }
    }

    fn over(self, bytes: Bytes) -> NewRow {
        let row = self.row.over(bytes);
        if self.complete { NewRow::Full(row) } else { NewRow::Partial(row) }
    }
}
