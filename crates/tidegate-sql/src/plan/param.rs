//! Parameters: cells of source rows on their way into a statement, encoded straight from the bytes the source sent.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use postgres_types::{IsNull, ToSql, Type, to_sql_checked};
use tidegate_model::{Row, Value};

/// The rows that the statements of one stretch of a plan take their cells from.
pub(crate) type Rows = Arc<Vec<Row>>;

/// A parameter of a [`Statement`](super::Statement). Refuses any type but the one its kind names.
#[derive(Clone, Debug)]
pub enum Param {
    /// `text[]`: one column of many rows.
    TextArray(TextArray),
    /// `text`: one cell.
    Text(TextCell),
    /// `int8`: how many rows the statement must affect.
    Rows(i64),
}

/// One column of many rows.
#[derive(Clone)]
pub struct TextArray {
    rows: Rows,
    /// The row of `rows` that each element is taken from.
    picks: Arc<[u32]>,
    column: usize,
}

impl TextArray {
    pub(crate) fn new(rows: &Rows, picks: &Arc<[u32]>, column: usize) -> Self {
        TextArray { rows: Arc::clone(rows), picks: Arc::clone(picks), column }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// Returns the elements in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Value<'_>> {
        self.picks.iter().map(|&pick| self.rows[pick as usize].value(self.column))
    }

    /// The binary form of `text[]` (array_recv in src/backend/utils/adt/arrayfuncs.c): dimensions, whether there are
    /// NULLs, element type; per dimension its length and lower bound; per element its length, -1 for NULL, and bytes.
    fn encode(&self, out: &mut BytesMut) -> Result<(), Unencodable> {
        let content: usize = self.values().map(|value| 4 + text_of(value).map_or(0, <[u8]>::len)).sum();
        out.reserve(20 + content);
        out.put_i32(1);
        out.put_i32(i32::from(self.values().any(|value| value == Value::Null)));
        out.put_u32(Type::TEXT.oid());
        out.put_i32(i32::try_from(self.len()).map_err(|_| Unencodable::TooLong)?);
        out.put_i32(1);
        for value in self.values() {
            match value {
                Value::Null => out.put_i32(-1),
                Value::Text(text) => {
                    out.put_i32(i32::try_from(text.len()).map_err(|_| Unencodable::TooLong)?);
                    out.put_slice(text);
                }
                Value::Unchanged | Value::Binary(_) => return Err(Unencodable::NotText),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TextArray {
    /// Shows the shape, not the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextArray(column {}, {} rows)", self.column, self.len())
    }
}

/// One cell.
#[derive(Clone)]
pub struct TextCell {
    rows: Rows,
    row: u32,
    column: usize,
}

impl TextCell {
    pub(crate) fn new(rows: &Rows, row: u32, column: usize) -> Self {
        TextCell { rows: Arc::clone(rows), row, column }
    }

    /// Returns the value.
    pub fn value(&self) -> Value<'_> {
        self.rows[self.row as usize].value(self.column)
    }
}

impl fmt::Debug for TextCell {
    /// Shows the place, not the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextCell(column {})", self.column)
    }
}

/// A cell that has no text form. The planner lets none through, so this says that an invariant broke.
#[derive(Debug, thiserror::Error)]
enum Unencodable {
    #[error("a cell of a planned row is not text")]
    NotText,
    #[error("a value or an array is longer than the protocol allows")]
    TooLong,
}

fn text_of(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Unchanged | Value::Binary(_) => None,
    }
}

impl ToSql for Param {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let expected = match self {
            Param::TextArray(_) => Type::TEXT_ARRAY,
            Param::Text(_) => Type::TEXT,
            Param::Rows(_) => Type::INT8,
        };
        if *ty != expected {
            return Err(format!("a parameter of type {expected} was planned and the server wants {ty}").into());
        }
        match self {
            Param::TextArray(array) => array.encode(out)?,
            Param::Text(cell) => match cell.value() {
                Value::Null => return Ok(IsNull::Yes),
                Value::Text(text) => out.put_slice(text),
                Value::Unchanged | Value::Binary(_) => return Err(Unencodable::NotText.into()),
            },
            Param::Rows(rows) => out.put_i64(*rows),
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TEXT_ARRAY | Type::TEXT | Type::INT8)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use postgres_types::FromSql;

    use super::*;

    fn column(values: &[Value<'_>]) -> TextArray {
        let rows: Rows = Arc::new(values.iter().map(|value| [*value].into_iter().collect()).collect());
        let picks: Arc<[u32]> = (0..values.len() as u32).collect();
        TextArray::new(&rows, &picks, 0)
    }

    #[test]
    fn arrays_arrive_as_they_were_sent() {
        let sent = column(&[Value::Text(b"a"), Value::Null, Value::Text(b""), Value::Text("ü".as_bytes())]);
        let mut out = BytesMut::new();
        Param::TextArray(sent).to_sql_checked(&Type::TEXT_ARRAY, &mut out).unwrap();
        let read = Vec::<Option<&str>>::from_sql(&Type::TEXT_ARRAY, &out).unwrap();
        assert_eq!(read, [Some("a"), None, Some(""), Some("ü")]);
    }

    #[test]
    fn another_type_than_the_planned_one_is_refused() {
        let mut out = BytesMut::new();
        assert!(Param::Rows(1).to_sql_checked(&Type::INT4, &mut out).is_err());
        assert!(Param::Rows(1).to_sql_checked(&Type::TEXT, &mut out).is_err());
        assert!(Param::TextArray(column(&[Value::Null])).to_sql_checked(&Type::INT8, &mut out).is_err());
    }

    #[test]
    fn a_cell_without_text_never_becomes_null() {
        let mut out = BytesMut::new();
        for value in [Value::Unchanged, Value::Binary(b"\0")] {
            assert!(Param::TextArray(column(&[value])).to_sql_checked(&Type::TEXT_ARRAY, &mut out).is_err());
        }
    }
}
