//! The bytes of a row that waits in a file.

use bytes::{Buf, Bytes};
use tidegate_model::{Hlc, OldRow, Problem, RelationId, Row, RowBuilder, Value};

use crate::message::RowChange;
use crate::window::Entry;

/// Writes an entry.
pub(crate) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.at.wall.to_le_bytes());
    out.extend_from_slice(&entry.at.logical.to_le_bytes());
    out.extend_from_slice(&entry.table.0.to_le_bytes());
    put(&entry.key, out);
    match &entry.change {
        RowChange::Insert(new) => tagged(b'I', &[new], out),
        RowChange::Update { old: None, new } => tagged(b'U', &[new], out),
        RowChange::Update { old: Some(old), new } => tagged(b'O', &[old, new], out),
        RowChange::Delete(OldRow::Full(old)) => tagged(b'D', &[old], out),
        RowChange::Delete(OldRow::Key(old)) => tagged(b'K', &[old], out),
        RowChange::Nothing => tagged(b'-', &[], out),
    }
}

/// Reads an entry. Its rows are slices of the record.
pub(crate) fn decode(mut record: Bytes) -> Result<Entry, Problem> {
    let (wall, logical) = (number::<8>(&mut record)?, number::<4>(&mut record)?);
    let at = Hlc { wall: u64::from_le_bytes(wall), logical: u32::from_le_bytes(logical) };
    let table = RelationId(u32::from_le_bytes(number(&mut record)?));
    let key = piece(&mut record)?;
    let [tag] = number(&mut record)?;
    let mut row = || row(&mut record);
    let change = match tag {
        b'I' => RowChange::Insert(row()?),
        b'U' => RowChange::Update { old: None, new: row()? },
        b'O' => RowChange::Update { old: Some(row()?), new: row()? },
        b'D' => RowChange::Delete(OldRow::Full(row()?)),
        b'K' => RowChange::Delete(OldRow::Key(row()?)),
        b'-' => RowChange::Nothing,
        _ => return Err(damaged()),
    };
    if record.is_empty() { Ok(Entry { at, table, key, change }) } else { Err(damaged()) }
}

pub(crate) fn damaged() -> Problem {
    Problem::bug("CR114", "spool file does not hold what was written to it", "its records cannot be told apart")
}

fn tagged(tag: u8, rows: &[&Row], out: &mut Vec<u8>) {
    out.push(tag);
    for row in rows {
        let columns = u32::try_from(row.len()).expect("a table has fewer columns");
        out.extend_from_slice(&columns.to_le_bytes());
        for value in row.values() {
            match value {
                Value::Null => out.push(b'n'),
                Value::Unchanged => out.push(b'u'),
                Value::Text(bytes) => {
                    out.push(b't');
                    put(bytes, out);
                }
                Value::Binary(bytes) => {
                    out.push(b'b');
                    put(bytes, out);
                }
            }
        }
    }
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).expect("a value is smaller than 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn row(record: &mut Bytes) -> Result<Row, Problem> {
    let columns = u32::from_le_bytes(number(record)?) as usize;
    let bytes = record.clone();
    let mut row = RowBuilder::with_capacity(columns.min(record.len()));
    for _ in 0..columns {
        let [tag] = number(record)?;
        match tag {
            b'n' => row.null(),
            b'u' => row.unchanged(),
            b't' | b'b' => {
                let value = piece(record)?;
                let end = bytes.len() - record.len();
                let (Ok(start), Ok(len)) = (u32::try_from(end - value.len()), u32::try_from(value.len())) else {
                    return Err(damaged());
                };
                if tag == b't' { row.text_at(start, len) } else { row.binary_at(start, len) }
            }
            _ => return Err(damaged()),
        }
    }
    Ok(row.over(bytes))
}

fn piece(record: &mut Bytes) -> Result<Bytes, Problem> {
    let len = u32::from_le_bytes(number(record)?) as usize;
    if len > record.len() { Err(damaged()) } else { Ok(record.split_to(len)) }
}

fn number<const N: usize>(record: &mut Bytes) -> Result<[u8; N], Problem> {
    let number = *record.first_chunk().ok_or_else(damaged)?;
    record.advance(N);
    Ok(number)
}
