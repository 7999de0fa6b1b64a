//! From bytes to a message.

use bytes::Bytes;
use tidegate_model::{NewRow, OldRow, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableName};

use super::cursor::Cursor;
use super::{CommitPoint, DecodeError, Framing, Message, tuple};

/// The first protocol version that streams transactions in progress.
const STREAMING: u8 = 2;
/// The first one whose Stream Abort says where.
const ABORT_POSITION: u8 = 4;

/// Parses one message of a connection that speaks `protocol`. Rows and contents are slices of `payload`.
pub fn parse(payload: &Bytes, framing: Framing, protocol: u8) -> Result<Message, DecodeError> {
    let mut cursor = Cursor::behind_kind(payload)?;
    let kind = cursor.kind();
    if matches!(kind, b'S' | b'E' | b'c' | b'A') && protocol < STREAMING {
        return Err(DecodeError::Protocol { kind, needs: STREAMING, protocol });
    }
    let xid = match kind {
        b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M' => transaction(&mut cursor, framing)?,
        _ => None,
    };
    let message = match kind {
        b'I' => {
            let relation = relation_id(&mut cursor)?;
            expect(&mut cursor, b'N', "kind of row")?;
            Message::Insert { xid, relation, new: tuple::whole(&mut cursor, payload)? }
        }
        b'U' => update(&mut cursor, payload, xid)?,
        b'D' => {
            let relation = relation_id(&mut cursor)?;
            let tag = cursor.u8("kind of row")?;
            Message::Delete { xid, relation, old: old_row(&mut cursor, tag, payload)? }
        }
        b'B' => {
            let final_lsn = cursor.lsn("final LSN")?;
            let committed_at = cursor.time("commit time")?;
            Message::Begin { final_lsn, committed_at, xid: cursor.u32("transaction id")? }
        }
        b'C' => Message::Commit(commit_point(&mut cursor)?),
        b'O' => Message::Origin { lsn: cursor.lsn("origin LSN")?, name: cursor.text("origin name")?.to_owned() },
        b'R' => Message::Relation { xid, table: relation(&mut cursor)? },
        b'Y' => Message::Type { xid, oid: cursor.u32("type OID")?, name: qualified_name(&mut cursor)? },
        b'T' => Message::Truncate { xid, relations: truncated(&mut cursor)? },
        b'M' => logical(&mut cursor, payload, xid)?,
        b'S' => {
            let xid = cursor.u32("transaction id")?;
            Message::StreamStart { xid, first_segment: cursor.u8("segment flag")? == 1 }
        }
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = cursor.u32("transaction id")?;
            Message::StreamCommit { xid, commit: commit_point(&mut cursor)? }
        }
        b'A' => stream_abort(&mut cursor, protocol)?,
        // Begin Prepare, Prepare, Commit Prepared, Rollback Prepared, Stream Prepare.
        b'b' | b'P' | b'K' | b'r' | b'p' => return Err(DecodeError::TwoPhase { kind }),
        _ => return Err(DecodeError::Unknown { kind }),
    };
    cursor.end()?;
    Ok(message)
}

/// Returns the top-level transaction's or subtransaction's id of a message in a streamed block.
pub(crate) fn streamed_xid(payload: &[u8]) -> Result<u32, DecodeError> {
    Cursor::behind_kind(payload)?.u32("transaction id")
}

fn transaction(cursor: &mut Cursor<'_>, framing: Framing) -> Result<Option<u32>, DecodeError> {
    match framing {
        Framing::Plain => Ok(None),
        Framing::Streamed => cursor.u32("transaction id").map(Some),
    }
}

fn relation_id(cursor: &mut Cursor<'_>) -> Result<RelationId, DecodeError> {
    cursor.u32("relation OID").map(RelationId)
}

fn expect(cursor: &mut Cursor<'_>, byte: u8, field: &'static str) -> Result<(), DecodeError> {
    if cursor.u8(field)? == byte { Ok(()) } else { Err(cursor.invalid(field)) }
}

fn commit_point(cursor: &mut Cursor<'_>) -> Result<CommitPoint, DecodeError> {
    expect(cursor, 0, "flags")?;
    let lsn = cursor.lsn("commit LSN")?;
    let end_lsn = cursor.lsn("end LSN")?;
    // A position of zero would pass for one that was applied long ago.
    if lsn.0 == 0 || end_lsn <= lsn {
        return Err(cursor.invalid("commit LSN"));
    }
    Ok(CommitPoint { lsn, end_lsn, committed_at: cursor.time("commit time")? })
}

fn update(cursor: &mut Cursor<'_>, payload: &Bytes, xid: Option<u32>) -> Result<Message, DecodeError> {
    let relation = relation_id(cursor)?;
    let tag = cursor.u8("kind of row")?;
    if tag == b'N' {
        return Ok(Message::Update { xid, relation, old: None, new: tuple::read(cursor, payload)? });
    }
    let old_at = *cursor;
    let old = old_row(cursor, tag, payload)?;
    expect(cursor, b'N', "kind of row")?;
    let new_at = *cursor;
    let mut new = tuple::read(cursor, payload)?;
    if matches!((&old, &new), (OldRow::Full(_), NewRow::Partial(_))) {
        *cursor = new_at;
        new = tuple::read_with_old(cursor, old_at, payload)?;
    }
    Ok(Message::Update { xid, relation, old: Some(old), new })
}

fn old_row(cursor: &mut Cursor<'_>, tag: u8, payload: &Bytes) -> Result<OldRow, DecodeError> {
    match tag {
        b'K' => Ok(OldRow::Key(tuple::whole(cursor, payload)?)),
        b'O' => Ok(OldRow::Full(tuple::whole(cursor, payload)?)),
        _ => Err(cursor.invalid("kind of row")),
    }
}

fn qualified_name(cursor: &mut Cursor<'_>) -> Result<TableName, DecodeError> {
    let schema = match cursor.text("schema name")? {
        "" => "pg_catalog",
        schema => schema,
    };
    Ok(TableName::new(schema, cursor.text("name")?))
}

fn relation(cursor: &mut Cursor<'_>) -> Result<SourceTable, DecodeError> {
    let id = relation_id(cursor)?;
    let name = qualified_name(cursor)?;
    let replica_identity = match cursor.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'i' => ReplicaIdentity::Index,
        b'f' => ReplicaIdentity::Full,
        b'n' => ReplicaIdentity::Nothing,
        _ => return Err(cursor.invalid("replica identity")),
    };
    let count = usize::from(cursor.u16("number of columns")?);
    /// Flags, an empty name, type OID and modifier.
    const COLUMN_BYTES_MIN: usize = 1 + 1 + 4 + 4;
    if count > cursor.left() / COLUMN_BYTES_MIN {
        return Err(cursor.invalid("number of columns"));
    }
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let identity = cursor.u8("column flags")? & 1 == 1;
        columns.push(SourceColumn {
            name: cursor.text("column name")?.into(),
            type_oid: cursor.u32("type OID")?,
            type_modifier: cursor.i32("type modifier")?,
            identity,
        });
    }
    Ok(SourceTable { id, name, replica_identity, columns })
}

fn truncated(cursor: &mut Cursor<'_>) -> Result<Vec<RelationId>, DecodeError> {
    let count = cursor.length("number of relations")?;
    // CASCADE and RESTART IDENTITY: every emptied table is listed anyway, and sequences are not in the stream.
    cursor.u8("options")?;
    if count > cursor.left() / size_of::<u32>() {
        return Err(cursor.invalid("number of relations"));
    }
    (0..count).map(|_| relation_id(cursor)).collect()
}

fn logical(cursor: &mut Cursor<'_>, payload: &Bytes, xid: Option<u32>) -> Result<Message, DecodeError> {
    let transactional = cursor.u8("flags")? & 1 == 1;
    let lsn = cursor.lsn("message LSN")?;
    let prefix = cursor.text("prefix")?.to_owned();
    let len = cursor.length("length of the content")?;
    let start = cursor.at();
    cursor.take(len, "content")?;
    Ok(Message::Logical { xid, transactional, lsn, prefix, content: payload.slice(start..start + len) })
}

fn stream_abort(cursor: &mut Cursor<'_>, protocol: u8) -> Result<Message, DecodeError> {
    let xid = cursor.u32("transaction id")?;
    let subxid = cursor.u32("subtransaction id")?;
    // Sent only with `streaming 'parallel'`, so version 4 alone does not promise it.
    let at = if protocol >= ABORT_POSITION && cursor.left() > 0 {
        Some((cursor.lsn("abort LSN")?, cursor.time("abort time")?))
    } else {
        None
    };
    Ok(Message::StreamAbort { xid, subxid, at })
}
