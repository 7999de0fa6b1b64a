//! The bytes of a log: records, each a header and, for a message, the message as the server sends it in a streamed
//! block.

use tidegate_model::{Change, NewRow, OldRow, Row, Value};

/// The id that messages bear which were not streamed: never that of a transaction, so never that of an aborted one.
pub(super) const NO_XID: u32 = 0;

const DESCRIPTION: u8 = 0;
const MESSAGE: u8 = 1;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// From here on the table looks like the log's table of this index. Nothing follows the header.
    Description(usize),
    /// A message of this length follows the header.
    Message(usize),
}

impl Record {
    pub(super) const HEADER_BYTES: usize = 5;

    pub(super) fn description(index: usize) -> [u8; Self::HEADER_BYTES] {
        header(DESCRIPTION, index)
    }

    pub(super) fn message(len: usize) -> [u8; Self::HEADER_BYTES] {
        header(MESSAGE, len)
    }

    /// Reads a header; `None` if its bytes are none.
    pub(super) fn read([kind, a, b, c, d]: [u8; Self::HEADER_BYTES]) -> Option<Record> {
        let number = u32::from_be_bytes([a, b, c, d]) as usize;
        match kind {
            DESCRIPTION => Some(Record::Description(number)),
            MESSAGE => Some(Record::Message(number)),
            _ => None,
        }
    }
}

fn header(kind: u8, number: usize) -> [u8; Record::HEADER_BYTES] {
    let [a, b, c, d] =
        u32::try_from(number).expect("a message is at most 1 GiB, twice that with values filled in").to_be_bytes();
    [kind, a, b, c, d]
}

/// Returns how long the message of this change is.
pub(super) fn message_len(change: &Change) -> usize {
    let mut len = 0;
    let counted: Result<(), std::convert::Infallible> = write_message(change, &mut |bytes| {
        len += bytes.len();
        Ok(())
    });
    let Ok(()) = counted;
    len
}

/// Gives the bytes of the message of this change, in pieces.
pub(super) fn write_message<E>(change: &Change, put: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let kind = match change {
        Change::Insert { .. } => b'I',
        Change::Update { .. } => b'U',
        Change::Delete { .. } => b'D',
        Change::Truncate { .. } => b'T',
        Change::Message { .. } => b'M',
    };
    put(&[kind])?;
    put(&NO_XID.to_be_bytes())?;
    match change {
        Change::Insert { table, new } => {
            put(&table.id.0.to_be_bytes())?;
            write_row(b'N', new, put)
        }
        Change::Update { table, old, new: NewRow::Full(new) | NewRow::Partial(new) } => {
            put(&table.id.0.to_be_bytes())?;
            if let Some(old) = old {
                write_old(old, put)?;
            }
            write_row(b'N', new, put)
        }
        Change::Delete { table, old } => {
            put(&table.id.0.to_be_bytes())?;
            write_old(old, put)
        }
        Change::Truncate { tables } => {
            let count = u32::try_from(tables.len()).expect("a command empties fewer tables than there are OIDs");
            put(&count.to_be_bytes())?;
            put(&[0])?;
            tables.iter().try_for_each(|table| put(&table.id.0.to_be_bytes()))
        }
        Change::Message { prefix, content } => {
            const TRANSACTIONAL: u8 = 1;
            put(&[TRANSACTIONAL])?;
            put(&0_u64.to_be_bytes())?;
            put(prefix.as_bytes())?;
            put(&[0])?;
            write_length(content.len(), put)?;
            put(content)
        }
    }
}

fn write_old<E>(old: &OldRow, put: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    match old {
        OldRow::Key(row) => write_row(b'K', row, put),
        OldRow::Full(row) => write_row(b'O', row, put),
    }
}

fn write_row<E>(tag: u8, row: &Row, put: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let columns = u16::try_from(row.len()).expect("the row came from a message that counts columns in 16 bits");
    put(&[tag])?;
    put(&columns.to_be_bytes())?;
    for value in row.values() {
        match value {
            Value::Null => put(b"n")?,
            Value::Unchanged => put(b"u")?,
            Value::Text(bytes) => write_value(b't', bytes, put)?,
            Value::Binary(bytes) => write_value(b'b', bytes, put)?,
        }
    }
    Ok(())
}

fn write_value<E>(kind: u8, bytes: &[u8], put: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    put(&[kind])?;
    write_length(bytes.len(), put)?;
    put(bytes)
}

fn write_length<E>(len: usize, put: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let len = i32::try_from(len).expect("a value is smaller than the message it came in");
    put(&len.to_be_bytes())
}
