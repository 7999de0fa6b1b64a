//! The bytes of pgoutput messages.

use bytes::{BufMut, BytesMut};
use tidegate_model::SourceTable;

/// Begin: of the commit that ends at `end`.
pub(crate) fn begin(out: &mut BytesMut, end: u64) {
    out.put_u8(b'B');
    out.put_u64(end - 1);
    out.put_i64(0);
    out.put_u32(1);
}

/// Commit.
pub(crate) fn commit(out: &mut BytesMut, end: u64) {
    out.put_u8(b'C');
    commit_point(out, end);
}

/// Stream Start.
pub(crate) fn stream_start(out: &mut BytesMut, xid: u32, first: bool) {
    out.put_u8(b'S');
    out.put_u32(xid);
    out.put_u8(u8::from(first));
}

/// Stream Stop.
pub(crate) fn stream_stop(out: &mut BytesMut) {
    out.put_u8(b'E');
}

/// Stream Commit.
pub(crate) fn stream_commit(out: &mut BytesMut, xid: u32, end: u64) {
    out.put_u8(b'c');
    out.put_u32(xid);
    commit_point(out, end);
}

/// Relation.
pub(crate) fn relation(out: &mut BytesMut, xid: Option<u32>, table: &SourceTable) {
    head(out, b'R', xid, table);
    for name in [&table.name.schema, &table.name.name] {
        text(out, name);
    }
    out.put_u8(b'd');
    out.put_u16(table.columns.len() as u16);
    for column in &table.columns {
        out.put_u8(u8::from(column.identity));
        text(out, &column.name);
        out.put_u32(column.type_oid);
        out.put_i32(column.type_modifier);
    }
}

/// Insert (`I`) or Update without an old row (`U`).
pub(crate) fn row(out: &mut BytesMut, kind: u8, xid: Option<u32>, table: &SourceTable, values: &[&str]) {
    head(out, kind, xid, table);
    out.put_u8(b'N');
    out.put_u16(values.len() as u16);
    for value in values {
        out.put_u8(b't');
        out.put_u32(value.len() as u32);
        out.put_slice(value.as_bytes());
    }
}

fn head(out: &mut BytesMut, kind: u8, xid: Option<u32>, table: &SourceTable) {
    out.put_u8(kind);
    if let Some(xid) = xid {
        out.put_u32(xid);
    }
    out.put_u32(table.id.0);
}

fn commit_point(out: &mut BytesMut, end: u64) {
    out.put_u8(0);
    out.put_u64(end - 1);
    out.put_u64(end);
    out.put_i64(0);
}

fn text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}
