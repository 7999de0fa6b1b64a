//! Messages that the stand-in writes itself: to the client, and to its backing session.

use bytes::{BufMut, BytesMut};

use super::link::{message, text};
use crate::error::SqlError;

/// Type numbers of the stand-in's own columns.
pub const INT8: u32 = 20;
pub const TEXT: u32 = 25;
pub const BYTEA: u32 = 17;

pub fn error(out: &mut BytesMut, error: &SqlError) {
    report(out, b'E', "ERROR", error);
}

pub fn fatal(out: &mut BytesMut, error: &SqlError) {
    report(out, b'E', "FATAL", error);
}

pub fn notice(out: &mut BytesMut, severity: &str, notice: &SqlError) {
    report(out, b'N', severity, notice);
}

fn report(out: &mut BytesMut, tag: u8, severity: &str, error: &SqlError) {
    message(out, tag, |out| {
        for (field, value) in [(b'S', severity), (b'V', severity), (b'C', &error.code), (b'M', &error.message)] {
            out.put_u8(field);
            text(out, value);
        }
        for (field, value) in [(b'D', &error.detail), (b'H', &error.hint), (b'n', &error.constraint)] {
            if let Some(value) = value {
                out.put_u8(field);
                text(out, value);
            }
        }
        out.put_u8(0);
    });
}

pub fn ready(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |out| out.put_u8(status));
}

pub fn complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

pub fn parameter(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// A RowDescription: names and types, text format.
pub fn columns(out: &mut BytesMut, columns: &[(&str, u32)]) {
    message(out, b'T', |out| {
        out.put_i16(i16::try_from(columns.len()).expect("the stand-in's own rows have few columns"));
        for (name, kind) in columns {
            text(out, name);
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(*kind);
            out.put_i16(-1);
            out.put_i32(-1);
            out.put_i16(0);
        }
    });
}

/// A DataRow of values that are in the client's format already.
pub fn data_row(out: &mut BytesMut, values: &[Option<&[u8]>]) {
    message(out, b'D', |out| {
        out.put_i16(i16::try_from(values.len()).expect("the stand-in's own rows have few columns"));
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_i32(i32::try_from(value.len()).expect("a value is below 2 GiB"));
                    out.extend_from_slice(value);
                }
            }
        }
    });
}

pub fn query(out: &mut BytesMut, sql: &str) {
    message(out, b'Q', |out| text(out, sql));
}

/// Parse with the parameter types as the client gave them: their number and their object identifiers.
pub fn parse(out: &mut BytesMut, name: &str, sql: &str, parameter_types: &[u8]) {
    message(out, b'P', |out| {
        text(out, name);
        text(out, sql);
        out.extend_from_slice(parameter_types);
    });
}

/// Bind with text parameters and text results.
pub fn bind(out: &mut BytesMut, portal: &str, statement: &str, parameters: &[Option<&str>]) {
    message(out, b'B', |out| {
        text(out, portal);
        text(out, statement);
        out.put_i16(0);
        out.put_i16(i16::try_from(parameters.len()).expect("the stand-in's own statements have few parameters"));
        for parameter in parameters {
            match parameter {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_i32(i32::try_from(value.len()).expect("a parameter is below 2 GiB"));
                    out.extend_from_slice(value.as_bytes());
                }
            }
        }
        out.put_i16(0);
    });
}

pub fn execute(out: &mut BytesMut, portal: &str) {
    message(out, b'E', |out| {
        text(out, portal);
        out.put_i32(0);
    });
}

pub fn close_statement(out: &mut BytesMut, name: &str) {
    message(out, b'C', |out| {
        out.put_u8(b'S');
        text(out, name);
    });
}

pub fn flush(out: &mut BytesMut) {
    message(out, b'H', |_| ());
}

pub fn sync(out: &mut BytesMut) {
    message(out, b'S', |_| ());
}

pub fn close_portal(out: &mut BytesMut, name: &str) {
    message(out, b'C', |out| {
        out.put_u8(b'P');
        text(out, name);
    });
}
