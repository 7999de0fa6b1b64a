//! GRANT and REVOKE of what may be done with tables.

use super::edits::Edits;
use super::lexer::Statement;
use super::refusal::syntax;
use crate::error::SqlError;

/// The right to TRUNCATE is called DROP, and there is no CASCADE.
pub fn rewrite(statement: &Statement<'_>, edits: &mut Edits<'_, '_>) -> Result<(), SqlError> {
    let on = (1..statement.len()).find(|index| statement.is(*index, "on")).unwrap_or(1);
    for at in 1..on {
        if statement.is_any(at, &["truncate", "references", "maintain"]) {
            return Err(syntax(statement, at));
        }
        if statement.is(at, "drop") {
            edits.replace(at..at + 1, "TRUNCATE");
        }
    }
    if statement.is_any(statement.len() - 1, &["cascade", "restrict"]) {
        return Err(syntax(statement, statement.len() - 1));
    }
    Ok(())
}
