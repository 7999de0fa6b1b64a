//! Messages of a feed: the envelopes of changefeeds in JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use super::options::{Envelope, Options};
use crate::encode::{self, Kind};
use crate::history::{Column, Hlc, Layout};

/// Values of a row, in the order of its layout's columns.
pub type Row = Vec<Option<String>>;

/// A row with the columns that it has.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub layout: &'a Layout,
    pub row: &'a Row,
}

/// One change of one row.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The row that the key is taken from.
    pub key: Image<'a>,
    pub before: Option<Image<'a>>,
    pub after: Option<Image<'a>>,
    /// The commit; of scans their time.
    pub updated: Hlc,
    /// The version's own time.
    pub mvcc: Hlc,
}

/// What one feed knows of a table when it writes messages.
#[derive(Clone, Debug)]
pub struct Topic {
    /// What the feed calls the table.
    pub name: String,
    pub database: String,
    pub schema: String,
    pub table: String,
    pub relation: u32,
}

/// A message for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub table: String,
    pub key: String,
    pub value: String,
}

/// Writes a resolved message.
pub fn resolved(envelope: Envelope, at: Hlc) -> String {
    match envelope {
        Envelope::Wrapped | Envelope::Enriched => format!("{{\"resolved\":\"{at}\"}}"),
        Envelope::KeyOnly | Envelope::Row | Envelope::Bare => format!("{{\"__crdb__\":{{\"resolved\":\"{at}\"}}}}"),
    }
}

/// Writes a change; `family` names the columns of a column family.
pub fn change(options: &Options, topic: &Topic, family: Option<&[String]>, change: &Change<'_>) -> Message {
    let key = key(options, change.key);
    let value = match options.envelope {
        Envelope::KeyOnly => String::new(),
        Envelope::Wrapped => wrapped(options, topic, family, change, &key),
        Envelope::Enriched => enriched(options, topic, family, change),
        Envelope::Row => change.after.map_or_else(String::new, |image| flat(options, family, image, false, change)),
        Envelope::Bare => flat(options, family, change.key, change.after.is_none(), change),
    };
    Message { table: topic.name.clone(), key, value }
}

fn key(options: &Options, image: Image<'_>) -> String {
    let mut out = String::new();
    let columns = image.layout.keys.iter().map(|place| (&image.layout.columns[*place], image.row[*place].as_deref()));
    if options.envelope == Envelope::Enriched {
        encode::object(
            columns.map(|(column, text)| (column.name.as_str(), &column.kind, text)),
            options.style,
            &mut out,
        );
    } else {
        encode::array(columns.map(|(column, text)| (&column.kind, text)), &mut out);
    }
    out
}

/// The columns that a message shows, with their values.
fn shown<'a>(
    options: &'a Options,
    family: Option<&'a [String]>,
    image: Image<'a>,
) -> impl Iterator<Item = (&'a Column, Option<&'a str>)> {
    let of_family = move |column: &Column| family.is_none_or(|columns| columns.contains(&column.name));
    image
        .layout
        .columns
        .iter()
        .zip(image.row)
        .filter(move |(column, _)| of_family(column) && (options.virtual_null || !column.r#virtual))
        .map(|(column, text)| (column, if column.r#virtual { None } else { text.as_deref() }))
}

fn object(options: &Options, family: Option<&[String]>, image: Option<Image<'_>>) -> String {
    let Some(image) = image else { return "null".to_owned() };
    let mut out = String::new();
    let fields = shown(options, family, image).map(|(column, text)| (column.name.as_str(), &column.kind, text));
    encode::object(fields, options.style, &mut out);
    out
}

/// Joins parts that are JSON already.
fn join(parts: &[(&str, String)]) -> String {
    let members: Vec<String> = parts.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

fn text(value: &str) -> String {
    let mut out = String::new();
    encode::string(value, &mut out);
    out
}

fn wrapped(options: &Options, topic: &Topic, family: Option<&[String]>, change: &Change<'_>, key: &str) -> String {
    let mut parts = vec![("after", object(options, family, change.after))];
    if options.diff {
        parts.push(("before", object(options, family, change.before)));
    }
    if options.key_in_value {
        parts.push(("key", key.to_owned()));
    }
    if options.mvcc_timestamp {
        parts.push(("mvcc_timestamp", format!("\"{}\"", change.mvcc)));
    }
    if options.topic_in_value {
        parts.push(("topic", text(&topic.name)));
    }
    if options.updated {
        parts.push(("updated", format!("\"{}\"", change.updated)));
    }
    join(&parts)
}

fn enriched(options: &Options, topic: &Topic, family: Option<&[String]>, change: &Change<'_>) -> String {
    let mut parts = vec![("after", object(options, family, change.after))];
    if options.diff {
        parts.push(("before", object(options, family, change.before)));
    }
    let operation = match (change.before, change.after) {
        (_, None) => "d",
        (None, Some(_)) => "c",
        (Some(_), Some(_)) => "u",
    };
    parts.push(("op", text(operation)));
    if options.enriched_source {
        parts.push(("source", source(options, topic, change)));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    parts.push(("ts_ns", now.to_string()));
    join(&parts)
}

fn source(options: &Options, topic: &Topic, change: &Change<'_>) -> String {
    let Layout { columns, keys } = change.key.layout;
    let keys: Vec<String> = keys.iter().map(|place| text(&columns[*place].name)).collect();
    let mut parts = vec![
        ("changefeed_sink", text("sinkless buffer")),
        ("cluster_id", text("00000000-0000-4000-8000-000000000000")),
        ("cluster_name", text("")),
        ("crdb_internal_table_id", topic.relation.to_string()),
        ("database_name", text(&topic.database)),
        ("db_version", text("stand-in")),
        ("job_id", text("0")),
    ];
    if options.mvcc_timestamp {
        parts.push(("mvcc_timestamp", format!("\"{}\"", change.mvcc)));
    }
    parts.extend([
        ("node_id", text("1")),
        ("node_name", text("localhost")),
        ("origin", text("cockroachdb")),
        ("primary_keys", format!("[{}]", keys.join(", "))),
        ("schema_name", text(&topic.schema)),
        ("source_node_locality", text("")),
        ("table_name", text(&topic.table)),
    ]);
    if options.updated {
        parts.push(("ts_hlc", format!("\"{}\"", change.updated)));
        parts.push(("ts_ns", change.updated.wall().to_string()));
    }
    join(&parts)
}

/// The columns themselves, metadata under `__crdb__`; of a deleted row the key with nulls.
fn flat(options: &Options, family: Option<&[String]>, image: Image<'_>, deleted: bool, change: &Change<'_>) -> String {
    let is_key =
        |column: &Column| image.layout.keys.iter().any(|place| image.layout.columns[*place].number == column.number);
    let mut parts: Vec<(&str, String)> = shown(options, family, image)
        .map(|(column, text)| (column.name.as_str(), &column.kind, text.filter(|_| !deleted || is_key(column))))
        .map(|(name, kind, text)| (name, encoded(options, kind, text)))
        .collect();
    let mut meta = Vec::new();
    if options.mvcc_timestamp {
        meta.push(("mvcc_timestamp", format!("\"{}\"", change.mvcc)));
    }
    if options.updated {
        meta.push(("updated", format!("\"{}\"", change.updated)));
    }
    if !meta.is_empty() {
        parts.push(("__crdb__", join(&meta)));
    }
    parts.sort_by(|a, b| a.0.cmp(b.0));
    let members: Vec<String> = parts.iter().map(|(name, value)| format!("{}: {value}", text(name))).collect();
    format!("{{{}}}", members.join(", "))
}

fn encoded(options: &Options, kind: &Kind, value: Option<&str>) -> String {
    let mut out = String::new();
    encode::value(kind, value, options.style, &mut out);
    out
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
