//! SQL values as changefeed messages show them: JSON made from the text that PostgreSQL gives for a value.
//!
//! The forms are those of CockroachDB's `tree.AsJSON` and its JSON and decimal printers: `": "` and `", "` between
//! parts, keys in byte order, numbers as the decimal library prints them (`1E+2`).

use std::sync::Arc;

use tokio_postgres::Client;

use crate::error::SqlError;

mod document;
mod list;
mod number;
mod text;
mod time;

pub use text::string;

/// How values of a type are written.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Digits as they are.
    Int,
    /// Whether of 4 bytes.
    Float {
        single: bool,
    },
    Decimal,
    Bool,
    /// A string with the text as it is: also BYTES (`\x...`), DATE, UUID, enums, intervals, bits.
    Text,
    Timestamp,
    TimestampTz,
    TimeTz,
    Json,
    Array(Arc<Kind>),
    /// Labels and kinds of the fields.
    Composite(Arc<Vec<(String, Kind)>>),
}

impl Kind {
    /// Finds out the kind of a type.
    pub async fn of(client: &Client, oid: u32) -> Result<Kind, SqlError> {
        let sql = "SELECT typtype::text, typelem, typcategory::text, typbasetype, typrelid FROM pg_catalog.pg_type
            WHERE oid = $1";
        Ok(match oid {
            16 => Kind::Bool,
            20 | 21 | 23 => Kind::Int,
            700 => Kind::Float { single: true },
            701 => Kind::Float { single: false },
            1700 => Kind::Decimal,
            114 | 3802 => Kind::Json,
            1114 => Kind::Timestamp,
            1184 => Kind::TimestampTz,
            1266 => Kind::TimeTz,
            _ => {
                let Some(row) = client.query_opt(sql, &[&oid]).await? else { return Ok(Kind::Text) };
                let (sort, element, category): (&str, u32, &str) = (row.get(0), row.get(1), row.get(2));
                match sort {
                    "d" => Box::pin(Kind::of(client, row.get(3))).await?,
                    "c" => Kind::Composite(Arc::new(fields(client, row.get(4)).await?)),
                    _ if category == "A" && element != 0 => {
                        Kind::Array(Arc::new(Box::pin(Kind::of(client, element)).await?))
                    }
                    _ => Kind::Text,
                }
            }
        })
    }
}

async fn fields(client: &Client, relation: u32) -> Result<Vec<(String, Kind)>, SqlError> {
    let sql = "SELECT attname::text, atttypid FROM pg_catalog.pg_attribute
        WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let mut fields = Vec::new();
    for row in client.query(sql, &[&relation]).await? {
        fields.push((row.get(0), Box::pin(Kind::of(client, row.get(1))).await?));
    }
    Ok(fields)
}

/// How a row shows JSON `null` inside a JSONB column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// `encode_json_value_null_as_object`.
    pub json_null_as_object: bool,
}

/// Writes one value; `None` is NULL.
pub fn value(kind: &Kind, text: Option<&str>, style: Style, out: &mut String) {
    let Some(text) = text else { return out.push_str("null") };
    match kind {
        Kind::Int => out.push_str(text),
        Kind::Float { single } => number::float(text, *single, out),
        Kind::Decimal => number::decimal(text, out),
        Kind::Bool => out.push_str(if text == "t" || text == "true" { "true" } else { "false" }),
        Kind::Text => string(text, out),
        Kind::Timestamp => string(&time::timestamp(text), out),
        Kind::TimestampTz => string(&time::timestamp_utc(text), out),
        Kind::TimeTz => string(&time::time_with_offset(text), out),
        Kind::Json if style.json_null_as_object && text == "null" => out.push_str("{\"__crdb_json_null__\": true}"),
        Kind::Json => document::document(text, out),
        Kind::Array(element) => {
            let elements = list::elements(text);
            out.push('[');
            for (index, one) in elements.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                value(element, one.as_deref(), style, out);
            }
            out.push(']');
        }
        Kind::Composite(fields) => {
            let values = list::fields(text);
            let named = fields.iter().zip(&values).map(|((name, kind), text)| (name.as_str(), kind, text.as_deref()));
            object(named, style, out);
        }
    }
}

/// Writes an object of named values in the order of the names.
pub fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a Kind, Option<&'a str>)>, style: Style, out: &mut String) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|a, b| a.0.cmp(b.0));
    out.push('{');
    for (index, (name, kind, text)) in fields.into_iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        string(name, out);
        out.push_str(": ");
        value(kind, text, style, out);
    }
    out.push('}');
}

/// Writes an array of values.
pub fn array<'a>(values: impl Iterator<Item = (&'a Kind, Option<&'a str>)>, out: &mut String) {
    out.push('[');
    for (index, (kind, text)) in values.enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        value(kind, text, Style::default(), out);
    }
    out.push(']');
}

#[cfg(test)]
mod tests;
