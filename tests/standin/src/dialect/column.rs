//! Definitions of columns.

use std::ops::Range;

use super::edits::Edits;
use super::lexer::Statement;
use super::refusal::syntax;
use super::types;
use crate::error::SqlError;

/// What a definition of a column says.
#[derive(Debug)]
pub struct Defined {
    pub name: String,
    pub is_key: bool,
    pub hidden: bool,
    /// Computed when read. The backing server computes it when written.
    pub computed: bool,
}

/// Notes the changes to a definition of a column.
pub fn column(statement: &Statement<'_>, item: Range<usize>, edits: &mut Edits<'_, '_>) -> Result<Defined, SqlError> {
    let name = statement.name(item.start).ok_or_else(|| syntax(statement, item.start))?;
    let found = types::at(statement, item.start + 1)?.ok_or_else(|| syntax(statement, item.start + 1))?;
    let serial = if found.serial { " NOT NULL DEFAULT standin_catalog.unique_rowid()" } else { "" };
    edits.replace(item.start + 1..found.end, format!("{}{serial}", found.sql));
    let mut defined = Defined { name, is_key: false, hidden: false, computed: false };
    let mut at = found.end;
    while at < item.end {
        if statement.sign(at, "(") {
            at = statement.past_closing(at);
            continue;
        }
        if statement.words(at, &["primary", "key"]) {
            defined.is_key = true;
        } else if statement.words(at, &["not", "visible"]) {
            defined.hidden = true;
            edits.remove(at..at + 2);
        } else if statement.is(at, "family") {
            edits.remove(at..at + 2);
        } else if statement.is(at, "create") {
            let family = (at..item.end).find(|index| statement.is(*index, "family")).unwrap_or(at);
            let named = usize::from(statement.name(family + 1).is_some() && family + 1 < item.end);
            edits.remove(at..family + 1 + named);
            at = family + 1 + named;
            continue;
        } else if statement.words(at, &["on", "update"])
            && !statement.is_any(at + 2, &["cascade", "set", "restrict", "no"])
        {
            at = on_update(statement, at, item.end, edits);
            continue;
        } else if statement.is(at, "as") && statement.sign(at + 1, "(") {
            if !statement.is(at - 1, "always") {
                edits.replace(at..at + 1, "GENERATED ALWAYS AS");
            }
            let past = statement.past_closing(at + 1);
            if statement.is(past, "virtual") {
                defined.computed = true;
                edits.replace(past..past + 1, "STORED");
            }
            at = past;
            continue;
        }
        at += 1;
    }
    Ok(defined)
}

/// `ON UPDATE expression`: PostgreSQL has none, so the column keeps what is written.
fn on_update(statement: &Statement<'_>, at: usize, end: usize, edits: &mut Edits<'_, '_>) -> usize {
    let words =
        ["not", "null", "default", "check", "unique", "primary", "references", "constraint", "family", "create"];
    let mut past = at + 2;
    while past < end && !statement.is_any(past, &words) {
        past = if statement.sign(past, "(") { statement.past_closing(past) } else { past + 1 };
    }
    edits.remove(at..past);
    past
}

/// Keys have no directions in PostgreSQL.
pub fn key_columns(statement: &Statement<'_>, open: usize, edits: &mut Edits<'_, '_>) {
    if !statement.sign(open, "(") {
        return;
    }
    for at in open..statement.past_closing(open) {
        if statement.is_any(at, &["asc", "desc"]) {
            edits.remove(at..at + 1);
        }
    }
}
