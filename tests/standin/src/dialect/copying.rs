//! COPY.

use super::edits::Edits;
use super::lexer::Statement;
use super::names::{Dotted, quoted};
use super::needs::user_table;
use super::refusal::{no_relation, syntax, unimplemented};
use super::{Context, Known, Rewritten, words};
use crate::error::SqlError;

/// Returns whether a COPY is TO.
pub fn copies_out(statement: &Statement<'_>) -> bool {
    direction(statement).is_some_and(|at| statement.is(at, "to"))
}

/// Finds FROM or TO outside parentheses.
fn direction(statement: &Statement<'_>) -> Option<usize> {
    let mut at = 1;
    while at < statement.len() {
        if statement.is_any(at, &["from", "to"]) {
            return Some(at);
        }
        at = if statement.sign(at, "(") { statement.past_closing(at) } else { at + 1 };
    }
    None
}

pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>, known: &Known) -> Result<Rewritten, SqlError> {
    let at = direction(statement).ok_or_else(|| syntax(statement, statement.len()))?;
    refuse(statement, at)?;
    let mut edits = Edits::of(statement);
    if !statement.sign(1, "(") {
        let name = Dotted::at(statement, 1).ok_or_else(|| syntax(statement, 1))?;
        let table = user_table(&name, context).ok_or_else(|| no_relation(&name.parts.join(".")))?;
        edits.replace(name.start..name.end, table.sql());
        let info = known.tables.get(&table);
        if let Some(info) = info.filter(|info| info.has_hidden() && !statement.sign(name.end, "(")) {
            let columns: Vec<String> = info.visible().map(|column| quoted(&column.name)).collect();
            edits.insert(name.end, &format!("({}) ", columns.join(", ")));
        }
    } else {
        words::rewrite(statement, context, &mut edits)?;
    }
    let source = super::whole(statement).to_owned();
    Ok(Rewritten { sql: edits.all(), ..Rewritten::plain(source) })
}

fn refuse(statement: &Statement<'_>, direction: usize) -> Result<(), SqlError> {
    let other = if statement.is(direction, "to") { "stdout" } else { "stdin" };
    if !statement.is(direction + 1, other) {
        return Err(unimplemented(statement, direction + 1, 41608));
    }
    for index in direction + 2..statement.len() {
        let issue = if statement.is(index, "freeze") {
            85573
        } else if statement.is_any(index, &["force_quote", "force_null", "force_not_null", "force"]) {
            85575
        } else if statement.is(index, "quote") {
            85574
        } else if statement.is(index, "where") {
            54580
        } else if statement.is_any(index, &["oids", "encoding", "log_verbosity", "on_error"]) {
            41608
        } else {
            continue;
        };
        return Err(unimplemented(statement, index, issue));
    }
    Ok(())
}
