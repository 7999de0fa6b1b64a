//! What has to be found out before a statement can be rewritten.

use std::collections::BTreeSet;

use super::lexer::{Kind, Statement};
use super::names::Dotted;
use super::queries;
use super::{Context, TableName, show};
use crate::error::SqlError;
use crate::knobs::Zone;

/// Column that rows of every table have without declaring it.
pub const MVCC_COLUMN: &str = "crdb_internal_mvcc_timestamp";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub tables: BTreeSet<TableName>,
    /// Of these, the ones that are read: from the past, where the statement reads it.
    pub read: BTreeSet<TableName>,
    /// The argument of AS OF SYSTEM TIME.
    pub as_of: Option<String>,
    /// The rows' timestamps are asked for.
    pub mvcc: bool,
    pub setting: Option<String>,
    pub zone: Option<Zone>,
    pub jobs: Option<JobsQuery>,
    /// The sessions of the cluster are asked for.
    pub sessions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsQuery {
    pub changefeeds: bool,
    pub id: Option<i64>,
}

/// Returns what to find out.
pub fn needs(statement: &Statement<'_>, context: &Context<'_>) -> Result<Needs, SqlError> {
    let mut needs = Needs::default();
    show::needs(statement, context, &mut needs)?;
    if statement.is_any(0, &["begin", "start", "set", "show", "commit", "rollback", "release", "savepoint"]) {
        return Ok(needs);
    }
    needs.as_of = as_of(statement)?.map(|clause| clause.text);
    needs.mvcc = (0..statement.len()).any(|index| statement.name(index).as_deref() == Some(MVCC_COLUMN));
    let (queries, parts) = queries::queries(statement);
    let past = needs.as_of.is_some() || context.as_of.is_some();
    for query in &queries {
        for item in &query.items {
            let Some(table) = item.name.as_ref().and_then(|name| user_table(name, context)) else { continue };
            if table.schema.is_none() && parts.contains(&table.table) {
                continue;
            }
            if past || needs.mvcc || !query.stars.is_empty() {
                needs.tables.insert(table.clone());
            }
            if past || needs.mvcc {
                needs.read.insert(table);
            }
        }
    }
    if let Some(table) = target(statement).and_then(|name| user_table(&name, context)) {
        needs.tables.insert(table);
    }
    Ok(needs)
}

/// Returns the table that a name means, unless it is one of the catalog.
pub fn user_table(name: &Dotted, context: &Context<'_>) -> Option<TableName> {
    let table = name.table(context.database)?;
    let catalog = match &table.schema {
        Some(schema) => matches!(schema.as_str(), "pg_catalog" | "information_schema" | "crdb_internal"),
        None => context.builtins.relations.contains(&table.table),
    };
    (!catalog).then_some(table)
}

/// Returns the name of the table that a statement writes to or changes.
pub fn target(statement: &Statement<'_>) -> Option<Dotted> {
    let mut at = (0..statement.len())
        .find(|index| statement.is_any(*index, &["insert", "upsert"]) && statement.is(*index + 1, "into"));
    if let Some(into) = at {
        return Dotted::at(statement, into + 2);
    }
    if statement.is(0, "copy") {
        return Dotted::at(statement, 1);
    }
    if statement.words(0, &["alter", "table"]) {
        let mut start = 2;
        if statement.words(start, &["if", "exists"]) {
            start += 2;
        }
        return Dotted::at(statement, start);
    }
    if statement.words(0, &["create"]) && (1..6).any(|index| statement.is(index, "index")) {
        at = (1..statement.len()).find(|index| statement.is(*index, "on"));
        return at.and_then(|on| Dotted::at(statement, on + 1));
    }
    let returns = (0..statement.len()).any(|index| statement.is(index, "returning"));
    if returns && statement.is(0, "update") {
        return Dotted::at(statement, 1);
    }
    None
}

/// AS OF SYSTEM TIME with its argument.
#[derive(Debug, PartialEq, Eq)]
pub struct AsOf {
    pub start: usize,
    /// Behind its last token.
    pub end: usize,
    pub text: String,
}

/// Finds AS OF SYSTEM TIME. A statement has it once.
pub fn as_of(statement: &Statement<'_>) -> Result<Option<AsOf>, SqlError> {
    let found = (0..statement.len()).find(|index| statement.words(*index, &["as", "of", "system", "time"]));
    let Some(start) = found else { return Ok(None) };
    let at = start + 4;
    let constant = || {
        SqlError::new(
            "42601",
            "AS OF SYSTEM TIME: only constant expressions, with_min_timestamp, \
                                              with_max_staleness, or follower_read_timestamp are allowed",
        )
    };
    let (text, end) = match statement.kind(at) {
        Some(Kind::Text) => (statement.string(at).ok_or_else(constant)?, at + 1),
        Some(Kind::Number) => (statement.text(at).to_owned(), at + 1),
        Some(Kind::Sign) if statement.sign(at, "-") && statement.kind(at + 1) == Some(Kind::Number) => {
            (format!("-{}", statement.text(at + 1)), at + 2)
        }
        Some(Kind::Word) if statement.sign(at + 1, "(") => {
            let end = statement.past_closing(at + 1);
            (statement.span(at..end).to_owned(), end)
        }
        _ => return Err(constant()),
    };
    Ok(Some(AsOf { start, end, text }))
}
