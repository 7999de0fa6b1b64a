//! What CockroachDB says about statements that it does not take.

use super::lexer::Statement;
use crate::error::SqlError;

/// A statement that its grammar does not have.
pub fn syntax(statement: &Statement<'_>, index: usize) -> SqlError {
    let near = if index < statement.len() { statement.text(index) } else { "EOF" };
    pointed(statement, index, SqlError::new("42601", format!("at or near {near:?}: syntax error")))
}

/// Syntax that it knows and does not do, with the number of the issue about it.
pub fn unimplemented(statement: &Statement<'_>, index: usize, issue: u32) -> SqlError {
    let near = if index < statement.len() { statement.text(index) } else { "EOF" };
    let text = format!("at or near {near:?}: syntax error: unimplemented: this syntax");
    let mut hint = "You have attempted to use a feature that is not yet implemented.".to_owned();
    if issue > 0 {
        hint.push_str(&format!("\nSee: https://go.crdb.dev/issue-v/{issue}/v25.4"));
    }
    pointed(statement, index, SqlError::new("0A000", text)).hint(hint)
}

fn pointed(statement: &Statement<'_>, index: usize, error: SqlError) -> SqlError {
    let place = statement.tokens.get(index).map_or(statement.source.len(), |token| token.at.start);
    let column = statement.source[..place].rsplit('\n').next().map_or(0, |line| line.chars().count());
    error.detail(format!("source SQL:\n{}\n{}^", statement.source, " ".repeat(column)))
}

pub fn no_function(name: &str) -> SqlError {
    SqlError::new("42883", format!("unknown function: {name}(): function undefined"))
}

pub fn no_relation(name: &str) -> SqlError {
    SqlError::new("42P01", format!("relation {name:?} does not exist"))
}

pub fn no_column(name: &str) -> SqlError {
    SqlError::new("42703", format!("column {name:?} does not exist"))
}
