//! Messages as a server would send them, for tests. Written from the manual, apart from the parser and from the spool.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_model::{NewRow, OldRow, ReplicaIdentity, Row, SourceTable, TableName, Timestamp, Value};

use super::{CommitPoint, Message};

/// Encodes a message; with an `xid` in it, as inside a streamed block.
pub(crate) fn encode(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    match message {
        Message::Begin { final_lsn, committed_at, xid } => {
            out.put_u8(b'B');
            out.put_u64(final_lsn.0);
            time(&mut out, *committed_at);
            out.put_u32(*xid);
        }
        Message::Commit(commit) => {
            out.put_u8(b'C');
            commit_point(&mut out, commit);
        }
        Message::Origin { lsn, name } => {
            out.put_u8(b'O');
            out.put_u64(lsn.0);
            text(&mut out, name);
        }
        Message::Relation { xid, table } => {
            head(&mut out, b'R', *xid);
            relation(&mut out, table);
        }
        Message::Type { xid, oid, name } => {
            head(&mut out, b'Y', *xid);
            out.put_u32(*oid);
            qualified(&mut out, name);
        }
        Message::Insert { xid, relation, new } => {
            head(&mut out, b'I', *xid);
            out.put_u32(relation.0);
            tuple(&mut out, b'N', new);
        }
        Message::Update { xid, relation, old, new: NewRow::Full(new) | NewRow::Partial(new) } => {
            head(&mut out, b'U', *xid);
            out.put_u32(relation.0);
            if let Some(old) = old {
                old_tuple(&mut out, old);
            }
            tuple(&mut out, b'N', new);
        }
        Message::Delete { xid, relation, old } => {
            head(&mut out, b'D', *xid);
            out.put_u32(relation.0);
            old_tuple(&mut out, old);
        }
        Message::Truncate { xid, relations } => {
            head(&mut out, b'T', *xid);
            out.put_u32(relations.len() as u32);
            out.put_u8(0);
            relations.iter().for_each(|relation| out.put_u32(relation.0));
        }
        Message::Logical { xid, transactional, lsn, prefix, content } => {
            head(&mut out, b'M', *xid);
            out.put_u8(u8::from(*transactional));
            out.put_u64(lsn.0);
            text(&mut out, prefix);
            bytes(&mut out, content);
        }
        Message::StreamStart { xid, first_segment } => {
            head(&mut out, b'S', Some(*xid));
            out.put_u8(u8::from(*first_segment));
        }
        Message::StreamStop => out.put_u8(b'E'),
        Message::StreamCommit { xid, commit } => {
            head(&mut out, b'c', Some(*xid));
            commit_point(&mut out, commit);
        }
        Message::StreamAbort { xid, subxid, at } => {
            head(&mut out, b'A', Some(*xid));
            out.put_u32(*subxid);
            if let Some((lsn, aborted_at)) = at {
                out.put_u64(lsn.0);
                time(&mut out, *aborted_at);
            }
        }
    }
    out.freeze()
}

fn head(out: &mut BytesMut, kind: u8, xid: Option<u32>) {
    out.put_u8(kind);
    if let Some(xid) = xid {
        out.put_u32(xid);
    }
}

fn time(out: &mut BytesMut, time: Timestamp) {
    out.put_i64(time.0 - 946_684_800_000_000);
}

fn commit_point(out: &mut BytesMut, commit: &CommitPoint) {
    out.put_u8(0);
    out.put_u64(commit.lsn.0);
    out.put_u64(commit.end_lsn.0);
    time(out, commit.committed_at);
}

fn text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

fn bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn qualified(out: &mut BytesMut, name: &TableName) {
    text(out, if &*name.schema == "pg_catalog" { "" } else { &name.schema });
    text(out, &name.name);
}

fn relation(out: &mut BytesMut, table: &SourceTable) {
    out.put_u32(table.id.0);
    qualified(out, &table.name);
    out.put_u8(match table.replica_identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Index => b'i',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Nothing => b'n',
    });
    out.put_u16(table.columns.len() as u16);
    for column in &table.columns {
        out.put_u8(u8::from(column.identity));
        text(out, &column.name);
        out.put_u32(column.type_oid);
        out.put_i32(column.type_modifier);
    }
}

fn old_tuple(out: &mut BytesMut, old: &OldRow) {
    match old {
        OldRow::Key(row) => tuple(out, b'K', row),
        OldRow::Full(row) => tuple(out, b'O', row),
    }
}

fn tuple(out: &mut BytesMut, tag: u8, row: &Row) {
    out.put_u8(tag);
    out.put_u16(row.len() as u16);
    for value in row.values() {
        match value {
            Value::Null => out.put_u8(b'n'),
            Value::Unchanged => out.put_u8(b'u'),
            Value::Text(value) => {
                out.put_u8(b't');
                bytes(out, value);
            }
            Value::Binary(value) => {
                out.put_u8(b'b');
                bytes(out, value);
            }
        }
    }
}
