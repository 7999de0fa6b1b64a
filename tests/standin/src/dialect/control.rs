//! Transactions, and statements that CockroachDB's grammar does not have.

use super::lexer::Statement;
use super::needs::as_of;
use super::refusal::{syntax, unimplemented};
use super::{Action, Rewritten};
use crate::error::SqlError;

/// First words of statements that there are.
const STATEMENTS: [&str; 45] = [
    "select",
    "with",
    "values",
    "table",
    "insert",
    "upsert",
    "update",
    "delete",
    "create",
    "alter",
    "drop",
    "truncate",
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "show",
    "copy",
    "explain",
    "analyze",
    "grant",
    "revoke",
    "comment",
    "discard",
    "deallocate",
    "prepare",
    "execute",
    "declare",
    "fetch",
    "move",
    "close",
    "call",
    "do",
    "pause",
    "resume",
    "cancel",
    "use",
    "unlisten",
    "experimental",
];

/// A transaction that reads the past must not be serializable: it would abort writers.
pub const BEGIN_PAST: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub fn rewrite(statement: &Statement<'_>) -> Result<Option<Rewritten>, SqlError> {
    refuse_unknown(statement)?;
    let action = if statement.is_any(0, &["begin", "start"]) {
        begin(statement)?
    } else if statement.is_any(0, &["commit", "end"]) && !statement.is(1, "prepared") {
        Action::Commit
    } else if statement.is_any(0, &["rollback", "abort"]) && !statement.is(1, "prepared") {
        rollback(statement)
    } else if statement.is(0, "savepoint") {
        Action::Savepoint(statement.name(1).ok_or_else(|| syntax(statement, 1))?)
    } else if statement.is(0, "release") {
        let at = 1 + usize::from(statement.is(1, "savepoint"));
        Action::Release(statement.name(at).ok_or_else(|| syntax(statement, at))?)
    } else if statement.words(0, &["set", "transaction"]) || statement.words(0, &["set", "session", "transaction"]) {
        return set_transaction(statement).map(Some);
    } else if statement.is(0, "unlisten") {
        Action::Nothing("UNLISTEN".to_owned())
    } else {
        return Ok(None);
    };
    Ok(Some(Rewritten::of_action(statement, action)))
}

fn refuse_unknown(statement: &Statement<'_>) -> Result<(), SqlError> {
    if statement.is(0, "reindex") {
        let hint = "CockroachDB does not require reindexing.";
        return Err(SqlError::new("0A000", "unimplemented: this syntax").hint(hint));
    }
    if statement.is(0, "refresh") || statement.is(0, "reassign") || statement.sign(0, "(") {
        return Ok(());
    }
    if !statement.is_any(0, &STATEMENTS) {
        return Err(syntax(statement, 0));
    }
    if statement.words(0, &["prepare", "transaction"]) {
        return Err(SqlError::new("0A000", "unimplemented: PREPARE TRANSACTION is not supported"));
    }
    if statement.is(0, "discard") && statement.is(1, "plans") {
        return Err(unimplemented(statement, 1, 0));
    }
    Ok(())
}

fn begin(statement: &Statement<'_>) -> Result<Action, SqlError> {
    let past = as_of(statement)?;
    if let Some(past) = past {
        return Ok(Action::Begin { sql: BEGIN_PAST.to_owned(), as_of: Some(past.text) });
    }
    let mut sql = String::from("BEGIN");
    modes(statement, 1, &mut sql)?;
    Ok(Action::Begin { sql, as_of: None })
}

/// Reads transaction modes into PostgreSQL's.
fn modes(statement: &Statement<'_>, mut at: usize, sql: &mut String) -> Result<(), SqlError> {
    at += usize::from(statement.is_any(at, &["transaction", "work"]));
    while at < statement.len() {
        if statement.words(at, &["isolation", "level"]) {
            at += 2;
            let (level, words) =
                if statement.words(at, &["read", "committed"]) || statement.words(at, &["read", "uncommitted"]) {
                    ("READ COMMITTED", 2)
                } else if statement.words(at, &["repeatable", "read"]) {
                    ("SERIALIZABLE", 2)
                } else if statement.is_any(at, &["serializable", "snapshot"]) {
                    ("SERIALIZABLE", 1)
                } else {
                    return Err(syntax(statement, at));
                };
            sql.push_str(" ISOLATION LEVEL ");
            sql.push_str(level);
            at += words;
        } else if statement.words(at, &["read", "only"]) || statement.words(at, &["read", "write"]) {
            sql.push(' ');
            sql.push_str(statement.span(at..at + 2));
            at += 2;
        } else if statement.words(at, &["not", "deferrable"])
            || statement.is(at, "priority") && statement.is_any(at + 1, &["low", "normal", "high"])
        {
            at += 2;
        } else if statement.is(at, "deferrable") || statement.sign(at, ",") {
            at += 1;
        } else {
            return Err(syntax(statement, at));
        }
    }
    Ok(())
}

fn rollback(statement: &Statement<'_>) -> Action {
    let to = (1..statement.len()).find(|index| statement.is(*index, "to"));
    let Some(to) = to else { return Action::Rollback };
    let at = to + 1 + usize::from(statement.is(to + 1, "savepoint"));
    match statement.name(at) {
        Some(name) => Action::RollbackTo(name),
        None => Action::Rollback,
    }
}

fn set_transaction(statement: &Statement<'_>) -> Result<Rewritten, SqlError> {
    if let Some(past) = as_of(statement)? {
        return Ok(Rewritten::of_action(statement, Action::ReadAsOf(past.text)));
    }
    let mut sql = String::from("SET TRANSACTION");
    let start = 2 + usize::from(statement.is(1, "session"));
    let mut rest = String::new();
    modes(statement, start, &mut rest)?;
    sql.push_str(&rest);
    // A priority alone leaves nothing to set.
    if rest.is_empty() {
        return Ok(Rewritten::of_action(statement, Action::Nothing("SET".to_owned())));
    }
    Ok(Rewritten { sql, ..Rewritten::plain(super::whole(statement).to_owned()) })
}
