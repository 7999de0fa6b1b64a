//! Names with dots.

use super::TableName;
use super::lexer::{Kind, Statement};

/// A name of one to three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dotted {
    pub parts: Vec<String>,
    pub start: usize,
    /// Behind its last token.
    pub end: usize,
}

impl Dotted {
    pub fn at(statement: &Statement<'_>, start: usize) -> Option<Dotted> {
        let mut parts = vec![statement.name(start)?];
        let mut end = start + 1;
        while statement.sign(end, ".") {
            let Some(part) = statement.name(end + 1) else { break };
            parts.push(part);
            end += 2;
        }
        Some(Dotted { parts, start, end })
    }

    /// Returns the table that is meant in this database; `None` if the name is one of another database.
    pub fn table(&self, database: &str) -> Option<TableName> {
        match self.parts.as_slice() {
            [table] => Some(TableName { schema: None, table: table.clone() }),
            // What CockroachDB tries when there is no such schema.
            [first, table] if first == database && first != "public" => {
                Some(TableName { schema: Some("public".to_owned()), table: table.clone() })
            }
            [schema, table] => Some(TableName { schema: Some(schema.clone()), table: table.clone() }),
            [first, schema, table] if first == database => {
                Some(TableName { schema: Some(schema.clone()), table: table.clone() })
            }
            _ => None,
        }
    }

    /// Returns the name for the backing server: without this database's name in front.
    pub fn local(&self, database: &str) -> String {
        match self.table(database) {
            Some(table) => table.sql(),
            None => self.parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join("."),
        }
    }
}

impl TableName {
    pub fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        return format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns whether a token may be a name that nobody reserved.
pub fn is_name(statement: &Statement<'_>, index: usize) -> bool {
    match statement.kind(index) {
        Some(Kind::Quoted) => true,
        Some(Kind::Word) => !RESERVED.iter().any(|word| statement.is(index, word)),
        _ => false,
    }
}

/// Words that end the name of a table and cannot be its alias.
const RESERVED: [&str; 44] = [
    "select",
    "from",
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
    "window",
    "set",
    "values",
    "returning",
    "for",
    "on",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "natural",
    "using",
    "as",
    "with",
    "when",
    "then",
    "else",
    "end",
    "case",
    "and",
    "or",
    "not",
    "in",
    "is",
    "default",
    "lateral",
    "only",
    "do",
    "to",
    "into",
];
